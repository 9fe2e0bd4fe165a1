"""Object storage behind one small interface. Every byte of DATA and RUN goes through here."""

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

from data_pipeline.errors import UserError

_PARTIAL = ".partial"


def _read_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


_UMASK = _read_umask()  # once, at import: reading it sets it for every thread


class StoredObject(NamedTuple):
    """One listed object: its key below the storage's root and its size in bytes."""

    key: str
    size: int


class Storage(Protocol):
    """Objects under one root URI, named by keys such as `train/00000.arrow`."""

    uri: str

    def list(self, prefix: str = "") -> list[StoredObject]:
        """Whole objects whose key starts with `prefix`, in ascending order of keys."""

    def size(self, key: str) -> int | None:
        """The object's bytes, or None where there is none."""

    def read(self, key: str) -> bytes:
        """The object's content. Raises FileNotFoundError naming its URI where there is none."""

    def write(self, key: str, data: bytes) -> None:
        """Creates or replaces an object atomically: readers see the old or the new one, whole."""

    def stage(self, key: str) -> AbstractContextManager[Path]:
        """A local path to write to: the object when the block ends, gone if the block raises."""

    def local_path(self, key: str) -> Path:
        """A local file with the object's content, to be memory-mapped."""

    def delete(self, key: str) -> None:
        """Removes an object; nothing happens where there is none."""

    def delete_partial(self) -> None:
        """Removes what writers that were killed left behind. Only while no writer is at work."""


class LocalStorage:
    """A folder on a local or shared file system."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.uri = str(root)

    def list(self, prefix: str = "") -> list[StoredObject]:
        """See Storage."""
        found = []
        folder = self._root / prefix.rpartition("/")[0]
        for parent, _, names in os.walk(folder):  # passes over what vanishes meanwhile
            for name in names:
                path = Path(parent, name)
                key = path.relative_to(self._root).as_posix()
                if key.startswith(prefix) and not _is_partial(name):
                    size = self.size(key)
                    if size is not None:
                        found.append(StoredObject(key, size))
        return sorted(found)

    def size(self, key: str) -> int | None:
        """See Storage."""
        try:
            found = (self._root / key).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return found.st_size if stat.S_ISREG(found.st_mode) else None

    def read(self, key: str) -> bytes:
        """See Storage."""
        return (self._root / key).read_bytes()

    def write(self, key: str, data: bytes) -> None:
        """See Storage."""
        with self.stage(key) as path:
            path.write_bytes(data)

    @contextmanager
    def stage(self, key: str) -> Iterator[Path]:
        """See Storage."""
        final = self._root / key
        try:
            final.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(_PARTIAL, f".{final.name}.", final.parent)
        except OSError as error:
            raise UserError(
                f"cannot write {final}: {error.strerror}; choose another place"
            ) from error
        os.close(handle)
        partial = Path(name)
        try:
            yield partial
            with partial.open("rb+") as file:
                os.fsync(file.fileno())
            partial.chmod(0o666 & ~_UMASK)
            partial.replace(final)
        finally:
            partial.unlink(missing_ok=True)

    def local_path(self, key: str) -> Path:
        """See Storage. The file itself: local data is read in place."""
        return self._root / key

    def delete(self, key: str) -> None:
        """See Storage."""
        path = self._root / key
        path.unlink(missing_ok=True)
        for folder in path.parents:
            if folder == self._root or not folder.is_dir() or any(folder.iterdir()):
                break
            folder.rmdir()

    def delete_partial(self) -> None:
        """See Storage."""
        for path in self._root.rglob(f".*{_PARTIAL}"):
            path.unlink(missing_ok=True)


def open_storage(uri: str) -> Storage:
    """Opens the storage that a URI names; creates nothing.

    Args:
        uri: A local path or file:// URI. Relative paths are made absolute.

    Raises:
        UserError: If the scheme is not supported or the path is a file.
    """
    if not uri:
        raise UserError("an empty path was given; pass a folder")
    scheme, separator, rest = uri.partition("://")
    if separator and scheme != "file":
        raise UserError(f"{uri}: {scheme}:// is not supported; pass a local folder")
    root = Path(rest if separator else uri).expanduser().absolute()
    if root.exists() and not root.is_dir():
        raise UserError(f"{root}: is a file; pass a folder")
    return LocalStorage(root)


def _is_partial(name: str) -> bool:
    return name.startswith(".") and name.endswith(_PARTIAL)
