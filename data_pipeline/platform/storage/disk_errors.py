"""A full or read-only disk in one line that names the file and the host."""

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from data_pipeline.platform.storage.interface import UnusableStorageError

_TAKES_NO_MORE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG}

# A network file system gives these while its server is away.
MAY_PASS = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT}


@contextmanager
def told_disk_errors(path: Path, fix: str) -> Iterator[None]:
    """Raises UnusableStorageError where the block meets a disk that takes no more bytes.

    An error that may pass stays an OSError, and names the path.

    Args:
        path: What the block writes. An error that names another file passes.
        fix: What to do.
    """
    try:
        yield
    except OSError as error:
        number, is_other = error.errno, False
        if error.filename is not None:
            is_other = Path(str(error.filename)).parent != path.parent
        if is_other or number not in _TAKES_NO_MORE | MAY_PASS:
            raise
        if number in MAY_PASS:
            raise OSError(number, os.strerror(number), str(path)) from error
        raise UnusableStorageError(
            f"{path} on {socket.gethostname()}: cannot be written: {error.strerror}; {fix}"
        ) from error
