"""The node's own folder: cached shards, downloads and files on their way to a bucket.

`SRGAN_CACHE` names it; a fast local disk is best. Many processes share it, and each may be killed
at any moment: what is at work is held by a lock that the kernel drops with its process.
"""

import errno
import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from data_pipeline.platform.errors import UserError

CACHE_VARIABLE = "SRGAN_CACHE"

# Some shared file systems have no locks; there, leftovers stay.
_NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)


def node_folder(name: str) -> Path:
    """A folder below the node's own, made if need be.

    Raises:
        UserError: If it cannot be made.
    """
    root = Path(os.environ.get(CACHE_VARIABLE) or "~/.cache/srgan").expanduser().absolute()
    folder = root / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be made ({error.strerror}); set {CACHE_VARIABLE} to a folder on a "
            "local disk"
        ) from error
    return folder


@contextmanager
def scratch_file(name: str) -> Iterator[Path]:
    """An empty file for the block's time; `name` ends its name. It may be moved elsewhere.

    Removes what killed processes left in the same folder.
    """
    folder = node_folder("scratch")
    for path in folder.iterdir():
        remove_unlocked(path)
    handle, path = locked_file(folder, "", f".{name}")
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)
        os.close(handle)


def locked_file(folder: Path, prefix: str, suffix: str) -> tuple[int, Path]:
    """A new file that `remove_unlocked` leaves alone until its handle is closed."""
    while True:
        handle, path = tempfile.mkstemp(suffix, prefix, folder)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        if os.path.exists(path):
            return handle, Path(path)
        os.close(handle)  # another process took it for a leftover before it was locked


def remove_unlocked(path: Path) -> bool:
    """Removes a file unless some process may hold a lock on it; says whether it did."""
    with suppress(FileNotFoundError), path.open("rb+") as file:  # NFS locks what can be written
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno in _NO_LOCKS:
                return False
            raise
        path.unlink()
        return True
    return False


@contextmanager
def node_lock(name: str) -> Iterator[None]:
    """Only one process and thread of the node is in the block of this name."""
    with (node_folder("locks") / name).open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
