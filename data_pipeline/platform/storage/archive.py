"""Images of a zip file as objects. They are read in place: no entry's name becomes a path."""

import errno
import stat
import zipfile
import zlib
from itertools import pairwise
from pathlib import Path

from data_pipeline.platform.errors import UserError
from data_pipeline.platform.storage.interface import StoredObject

_MOST_ENTRIES = 100_000
_LARGEST_ENTRY = 512 << 20  # bytes
_LARGEST_RATIO = 200  # images hardly compress; a zip bomb does
_LOCAL_HEADER = 30  # bytes, at least
_ENCRYPTED = 0x1

# Errors of zipfile and zlib on damaged bytes.
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError)


class ZipStorage:
    """The files of a local zip file, or of one folder in it; for threads, and can be pickled.

    Args:
        path: The zip file.
        prefix: A folder such as `DIV2K_train_HR/`: only files below it are listed and read, and
            their keys do not contain it.

    Raises:
        UserError: If the file is no whole zip file, or an entry is unsafe: encrypted, a link,
            overlapping another one, a name that is there twice or leads out of the archive, or
            data that inflates beyond reason.
    """

    def __init__(self, path: Path, prefix: str = "") -> None:
        self.uri = f"{path}/{prefix}".rstrip("/")
        self._path, self._prefix = path, prefix
        self._entries = {
            entry.filename.removeprefix(prefix): entry
            for entry in _read_index(path)
            if entry.filename.startswith(prefix) and not entry.is_dir()
        }

    def __reduce__(self) -> tuple[type["ZipStorage"], tuple[Path, str]]:
        return ZipStorage, (self._path, self._prefix)  # the other process reads the index itself

    def list(self, prefix: str = "") -> list[StoredObject]:
        """See ReadableStorage."""
        return sorted(
            StoredObject(key, entry.file_size)
            for key, entry in self._entries.items()
            if key.startswith(prefix)
        )

    def read(self, key: str) -> bytes:
        """See ReadableStorage. Raises OSError if the entry is damaged."""
        entry = self._entries.get(key)
        name = f"{self.uri}/{key}"
        if entry is None:
            raise FileNotFoundError(errno.ENOENT, "no such entry", name)
        try:
            # Opened for each read (4 ms for DIV2K): threads and forks share nothing.
            with zipfile.ZipFile(self._path) as archive, archive.open(entry) as file:
                data = file.read(entry.file_size + 1)  # to the end: there zipfile checks the CRC
        except _DAMAGE as error:
            raise OSError(errno.EIO, f"damaged in the archive ({error})", name) from error
        if len(data) != entry.file_size:
            raise OSError(errno.EIO, "damaged in the archive (wrong size)", name)
        return data


def _read_index(path: Path) -> list[zipfile.ZipInfo]:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except OSError as error:
        raise UserError(f"{path}: does not read: {error.strerror}; pass a zip file") from error
    except _DAMAGE as error:
        raise UserError(
            f"{path}: is no zip file, or damaged or cut short ({error}); delete it and run the "
            "same command again"
        ) from error
    if len(entries) > _MOST_ENTRIES:
        raise UserError(f"{path}: has {len(entries)} entries, more than {_MOST_ENTRIES}")
    for entry in entries:
        if problem := _problem(entry):
            raise UserError(f"{path}: {entry.orig_filename!r} {problem}; use the original archive")
    for one, other in pairwise(sorted(entries, key=lambda entry: entry.header_offset)):
        if one.header_offset + _LOCAL_HEADER + one.compress_size > other.header_offset:
            raise UserError(
                f"{path}: {one.filename!r} and {other.filename!r} overlap; use the original archive"
            )
    for one, other in pairwise(sorted(entries, key=lambda entry: entry.filename)):
        if one.filename == other.filename:
            raise UserError(f"{path}: {one.filename!r} is there twice; use the original archive")
    return entries


def _problem(entry: zipfile.ZipInfo) -> str | None:
    name = entry.orig_filename  # as stored; zipfile cuts `filename` at a NUL
    kind = stat.S_IFMT(entry.external_attr >> 16)  # 0 if it was not written on Unix
    problems = (
        (not name, "has no name"),
        (
            name.startswith("/") or "\\" in name or "\0" in name or ".." in name.split("/"),
            "has a name that leads out of the archive",
        ),
        (kind not in (0, stat.S_IFREG, stat.S_IFDIR), "is a link or a device"),
        (entry.header_offset < 0, "begins before the file does"),
        (entry.flag_bits & _ENCRYPTED, "is encrypted"),
        (
            entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED),
            "is neither stored nor deflated",
        ),
        (
            entry.file_size > _LARGEST_ENTRY,
            f"has {entry.file_size} bytes, more than {_LARGEST_ENTRY}",
        ),
        (
            entry.file_size > _LARGEST_RATIO * entry.compress_size,
            f"inflates more than {_LARGEST_RATIO} times, as a zip bomb does",
        ),
    )
    return next((text for wrong, text in problems if wrong), None)
