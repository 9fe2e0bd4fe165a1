"""A full, read-only or broken disk in one line that names the file."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from data_pipeline.platform.storage.interface import UnusableStorageError

_OF_DISKS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EFBIG}


@contextmanager
def told_disk_errors(path: Path, fix: str) -> Iterator[None]:
    """Raises UnusableStorageError where the block meets a disk that takes no more bytes.

    Args:
        path: What the block writes. An error that names another file passes.
        fix: What to do.
    """
    try:
        yield
    except OSError as error:
        is_other = error.filename is not None and Path(str(error.filename)).parent != path.parent
        if error.errno not in _OF_DISKS or is_other:
            raise
        raise UnusableStorageError(f"{path}: cannot be written: {error.strerror}; {fix}") from error
