"""The node's own folder: cached shards, downloads and files on their way to a bucket.

`SRGAN_CACHE` names it; a fast local disk is best. Many processes share it, and each may be killed
at any moment: a process locks what it works on, and the kernel drops the lock with the process.
"""

import errno
import fcntl
import logging
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from data_pipeline.platform.errors import UserError

CACHE_VARIABLE = "SRGAN_CACHE"

# Some shared file systems have no locks. There, leftovers stay.
_NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)

_log = logging.getLogger(__name__)


def node_folder(name: str) -> Path:
    """A folder below the node's own; makes it if need be.

    Raises:
        UserError: If it cannot be made, or belongs to another user.
    """
    root = Path(os.environ.get(CACHE_VARIABLE) or "~/.cache/srgan").expanduser().absolute()
    folder = root / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be made or written ({error.strerror}); set {CACHE_VARIABLE} to a "
            "folder of your own on a local disk"
        ) from error
    return folder


@contextmanager
def scratch_file(name: str) -> Iterator[Path]:
    """An empty file for the time of the block; its name ends in `name`. It may be moved elsewhere.

    Also removes the files that killed processes left in the same folder.
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
    """A new file, with a random name, that `remove_unlocked` leaves alone until its handle closes.

    Its permissions are those of any new file, by the umask, as it may be moved to its final name.
    """
    while True:
        path = folder / f"{prefix}{secrets.token_hex(6)}{suffix}"
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        if path.exists():
            return handle, path
        os.close(handle)  # another process took it for a leftover before it was locked


def remove_unlocked(path: Path) -> bool:
    """Removes a file unless a process may hold a lock on it; returns whether it removed it."""
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
def node_lock(name: str, waiting: str | None = None) -> Iterator[None]:
    """Only one process and thread of the node is in the block of this name.

    Args:
        name: The lock's name.
        waiting: A line for the log if another process or thread is in the block.
    """
    with (node_folder("locks") / name).open("wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if waiting:
                _log.info(waiting)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
