"""Objects as files of a folder."""

import errno
import logging
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from data_pipeline.platform.errors import UserError
from data_pipeline.platform.node import locked_file, remove_unlocked
from data_pipeline.platform.storage.disk_errors import told_disk_errors
from data_pipeline.platform.storage.interface import (
    StagedFile,
    StoredObject,
    UnusableStorageError,
)

_PARTIAL = ".partial"
_BLOCK = 1 << 20
_ATTEMPTS = 100

_log = logging.getLogger(__name__)


class LocalStorage:
    """A folder on a local or shared file system."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.uri = str(root)

    def list(self, prefix: str = "") -> list[StoredObject]:
        """See Storage. Follows links."""
        found = []
        folder = self._root / prefix.rpartition("/")[0]
        for path in _files_below(folder):
            key = path.relative_to(self._root).as_posix()
            if key.startswith(prefix) and not _is_partial(path.name):
                try:
                    status, link = path.stat(), path.lstat()
                except (FileNotFoundError, NotADirectoryError):  # gone meanwhile, or a broken link
                    status = None
                if status is not None and stat.S_ISREG(status.st_mode):
                    # A program can set mtime back, as `cp -p` does, but not ctime.
                    changed = max(status.st_ctime, link.st_ctime)
                    found.append(StoredObject(key, status.st_size, changed))
                elif path.is_symlink():
                    _log.warning("%s: links to no file; it is left out", path)
        return sorted(found)

    def size(self, key: str) -> int | None:
        """See Storage."""
        try:
            found = self.path(key).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return found.st_size if stat.S_ISREG(found.st_mode) else None

    def read(self, key: str) -> bytes:
        """See Storage."""
        return self.path(key).read_bytes()

    def stream(self, key: str) -> Iterator[bytes]:
        """See Storage."""
        with self.path(key).open("rb") as file:
            while block := file.read(_BLOCK):
                yield block

    def write(self, key: str, data: bytes) -> None:
        """See Storage."""
        with self.stage(key) as staged:
            staged.path.write_bytes(data)

    def write_new(self, key: str, data: bytes) -> None:
        """See Storage."""
        final = self.path(key)
        with self._partial(final) as path:
            path.write_bytes(data)
            _sync(path)
            os.link(path, final)  # unlike a rename, it fails if the file exists

    @contextmanager
    def stage(self, key: str) -> Iterator[StagedFile]:
        """See Storage."""
        final = self.path(key)
        with self._partial(final) as path:
            yield StagedFile(path)
            _sync(path)
            path.replace(final)

    @contextmanager
    def _partial(self, final: Path) -> Iterator[Path]:
        """An empty file beside `final`; it is removed after the block."""
        try:
            handle, partial = _new_partial(final)
        except OSError as error:
            raise UnusableStorageError(
                f"cannot write {final}: {error.strerror}; choose another place"
            ) from error
        try:
            with told_disk_errors(final, "make room, or choose another place"):
                yield partial
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            raise UserError(
                f"{final}: the name is too long for this file system; use a shorter one"
            ) from error
        finally:
            partial.unlink(missing_ok=True)
            os.close(handle)

    def path(self, key: str) -> Path:
        """The object's file, for readers that need no copy.

        Raises:
            UserError: If the key leads out of the folder; it may come from a manifest.
        """
        if key.startswith("/") or ".." in key.split("/"):
            raise UserError(f"{self.uri}: the key {key!r} leads out of it; prepare it anew")
        return self._root / key

    def delete(self, key: str) -> None:
        """See Storage."""
        path = self.path(key)
        with suppress(FileNotFoundError, NotADirectoryError):
            path.unlink()
        for folder in path.parents:
            try:
                folder.rmdir()
            except FileNotFoundError:
                pass  # another thread removed it
            except OSError:
                break  # it is not empty
            if folder == self._root:
                break

    def delete_folder(self, folder: str) -> None:
        """See Storage."""
        with suppress(FileNotFoundError, NotADirectoryError):
            shutil.rmtree(self.path(folder))
        with suppress(OSError):  # it is not empty, or a mount
            self._root.rmdir()

    def delete_partial(self) -> None:
        """See Storage."""
        for path in self._root.rglob(f".*{_PARTIAL}"):
            remove_unlocked(path)


def _files_below(folder: Path) -> Iterator[Path]:
    """All that is no folder below a folder. A linked folder counts once, and not if it is below."""
    root = os.path.realpath(folder)
    linked: set[str] = set()
    for parent, folders, names in os.walk(folder, onerror=_raise_unless_gone, followlinks=True):
        real = os.path.realpath(parent)
        is_inside = real == root or real.startswith(f"{root}/")
        if parent != str(folder) and (
            real in linked or (is_inside and real != f"{root}{parent[len(str(folder)) :]}")
        ):
            folders.clear()  # its files are in the list, or it is a loop of links
            continue
        if not is_inside:
            linked.add(real)
        folders.sort()
        yield from (Path(parent, name) for name in names)


def _new_partial(final: Path) -> tuple[int, Path]:
    """A new locked file. Another process may remove the folder while it is still empty."""
    for _ in range(_ATTEMPTS):
        with suppress(FileNotFoundError):
            final.parent.mkdir(parents=True, exist_ok=True)
            return locked_file(final.parent, ".", _PARTIAL)  # short: names may be long
    raise FileNotFoundError(errno.ENOENT, "the folder vanishes", str(final.parent))


def _raise_unless_gone(error: OSError) -> None:
    """An unreadable folder must not look like an empty one."""
    if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
        raise UserError(f"{error.filename}: does not read: {error.strerror}; fix that") from error


def _is_partial(name: str) -> bool:
    return name.startswith(".") and name.endswith(_PARTIAL)


def _sync(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
