"""The node's own folder: cached shards, downloads and files on their way to a bucket.

`SRGAN_CACHE` names it; a fast local disk is best. Many processes of a user share it, and each may
be killed at any moment: a process locks what it works on, and the kernel drops the lock with the
process. Users share nothing: what one leaves, another may not be allowed to change.
"""

import errno
import fcntl
import logging
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from data_pipeline.platform.errors import UserError

CACHE_VARIABLE = "SRGAN_CACHE"

# Some shared file systems have no locks. There, leftovers stay.
_NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)

# A home that this user cannot write: none, another user's, a read-only one.
_NO_HOME = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR)

_log = logging.getLogger(__name__)


def node_folder(name: str) -> Path:
    """A folder below the node's own; makes it if need be.

    A user who finds it taken by another one gets `SRGAN_CACHE/user-UID/name`. Without a home that
    can be written, the default is in the temporary folder.

    Raises:
        UserError: If it cannot be made.
    """
    given = os.environ.get(CACHE_VARIABLE)
    root = os.path.expanduser(given or "~/.cache/srgan")
    if given and root.startswith("~"):
        raise UserError(
            f"{CACHE_VARIABLE}={given}: this user has no home folder; pass a path that begins "
            "with /"
        )
    try:
        if root.startswith("~"):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), root)
        return _own_folder(Path(root).absolute(), name)
    except OSError as error:
        if given or error.errno not in _NO_HOME:
            raise _unusable(Path(root) / name, error) from error
    spare = _spare_root()
    _tell_spare(spare)
    return _spare_folder(name)


def _own_folder(root: Path, name: str) -> Path:
    """This user's folder below a root that users may share. Raises OSError."""
    own = root / name
    own.mkdir(parents=True, exist_ok=True)
    if own.stat().st_uid != os.geteuid():
        own = _private(root / f"user-{os.geteuid()}") / name
        own.mkdir(exist_ok=True)
    if not os.access(own, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    return own


def _private(folder: Path) -> Path:
    """Makes a folder for this user alone. Raises OSError, also if another user has made it."""
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.lstat().st_uid != os.geteuid():
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    return folder


def _spare_root() -> Path:
    return Path(tempfile.gettempdir()) / f"srgan-{os.geteuid()}"


def _spare_folder(name: str) -> Path:
    """A folder in the temporary one, where other users may have made one of this name. Not theirs.

    Raises:
        UserError: If it is another user's.
    """
    root = _spare_root()
    try:
        (_private(root) / name).mkdir(exist_ok=True)
    except OSError as error:
        raise _unusable(root / name, error) from error
    return root / name


@lru_cache
def _tell_spare(root: Path) -> None:
    _log.warning(
        "%s is the node's folder, as this user has no home that can be written; %s names another",
        root,
        CACHE_VARIABLE,
    )


def _unusable(folder: Path, error: OSError) -> UserError:
    return UserError(
        f"{folder}: cannot be made or written ({error.strerror}); set {CACHE_VARIABLE} to a "
        "folder of your own on a local disk"
    )


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
        lock_if_possible(handle, fcntl.LOCK_EX)
        if path.exists():
            return handle, path
        os.close(handle)  # another process took it for a leftover before it was locked


def lock_if_possible(handle: int, kind: int) -> bool:
    """Locks an open file; returns False on a file system without locks.

    Args:
        handle: The file's.
        kind: `fcntl.LOCK_EX` or `fcntl.LOCK_SH`, with or without `fcntl.LOCK_NB`.

    Raises:
        BlockingIOError: If another process holds the lock, and the kind does not wait for it.
    """
    try:
        fcntl.flock(handle, kind)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return False
    return True


def remove_unlocked(path: Path) -> bool:
    """Removes a file unless a process may hold a lock on it; returns whether it removed it.

    A file of another user stays.
    """
    # NFS locks what can be written.
    with suppress(FileNotFoundError, PermissionError), path.open("rb+") as file:
        try:
            if not lock_if_possible(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB):
                return False
        except BlockingIOError:
            return False
        path.unlink()
        return True
    return False


def _open_lock(path: Path) -> BinaryIO:
    try:
        return path.open("wb")
    except OSError as error:
        raise _unusable(path, error) from error


@contextmanager
def node_lock(name: str, waiting: str | None = None) -> Iterator[None]:
    """Only one process and thread of this user on the node is in the block of this name.

    Args:
        name: The lock's name.
        waiting: A line for the log if another process or thread is in the block.
    """
    for folder in (node_folder, _spare_folder):  # the temporary folder always has locks
        with _open_lock(folder("locks") / name) as file:
            try:
                held = lock_if_possible(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if waiting:
                    _log.info(waiting)
                held = lock_if_possible(file.fileno(), fcntl.LOCK_EX)
            if held:
                yield
                return
    raise UserError(
        f"{_spare_root()}: the temporary folder's file system has no locks; set TMPDIR to a "
        "folder on a local disk"
    )
