"""Objects as files of a folder."""

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from data_pipeline.platform.errors import UserError
from data_pipeline.platform.node import locked_file, remove_unlocked
from data_pipeline.platform.storage.disk_errors import MAY_PASS, told_disk_errors
from data_pipeline.platform.storage.interface import (
    StagedFile,
    StoredObject,
    UnusableStorageError,
)
from data_pipeline.platform.storage.walk import files_below

_PARTIAL = ".partial"
_BLOCK = 1 << 20
_ATTEMPTS = 100


class LocalStorage:
    """A folder on a local or shared file system.

    Args:
        root: The folder.
        follow_links: Whether `list` enters linked folders, as a source needs; see `files_below`.
            DATA and RUN do not: what lies beyond a link is not theirs to delete.
    """

    def __init__(self, root: Path, *, follow_links: bool = False) -> None:
        self._root, self._follow_links = root, follow_links
        self.uri = str(root)

    def list(self, prefix: str = "") -> list[StoredObject]:
        """See Storage."""
        folder = self._root / prefix.rpartition("/")[0]
        found = (
            StoredObject(path.relative_to(self._root).as_posix(), size, changed)
            for path, size, changed in files_below(folder, follow_links=self._follow_links)
            if not _is_partial(path.name)
        )
        return sorted(one for one in found if one.key.startswith(prefix))

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
            if error.errno in MAY_PASS:
                raise
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


def _new_partial(final: Path) -> tuple[int, Path]:
    """A new locked file. Another process may remove the folder while it is still empty."""
    for _ in range(_ATTEMPTS):
        with suppress(FileNotFoundError):
            final.parent.mkdir(parents=True, exist_ok=True)
            return locked_file(final.parent, ".", _PARTIAL)  # short: names may be long
    raise FileNotFoundError(errno.ENOENT, "the folder vanishes", str(final.parent))


def _is_partial(name: str) -> bool:
    return name.startswith(".") and name.endswith(_PARTIAL)


def _sync(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
