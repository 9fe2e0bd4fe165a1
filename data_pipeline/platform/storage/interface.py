"""The interface of a storage. Every byte of sources, DATA and RUN goes through it."""

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Protocol

from data_pipeline.platform.errors import UserError
from data_pipeline.platform.hashing import file_sha256


class UnusableStorageError(UserError):
    """A bucket, server or disk that no object can be read from or written to until the user acts.

    Credentials, rights, quotas, a full disk. To try another object is of no use.
    """


class StoredObject(NamedTuple):
    """One listed object.

    Attributes:
        key: Its key below the storage's root.
        size: In bytes.
        changed: When its content may have changed last, in seconds since 1970 by the storage's
            clock; no program can set it back. In a source folder the links and folders on the way
            to it count too (`files_below`). Minus infinity in an archive.
    """

    key: str
    size: int
    changed: float = -math.inf


class StagedFile:
    """A local file that becomes an object.

    Attributes:
        path: Where to write it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def sha256(self) -> str:
        """Of the whole content, in hexadecimal. Ask when it is complete: the file is read once."""
        return file_sha256(self.path)


class ReadableStorage(Protocol):
    """Objects under one root URI, named by keys such as `train/00000.arrow`. Can be pickled."""

    uri: str

    def list(self, prefix: str = "") -> list[StoredObject]:
        """Whole objects whose key starts with `prefix`, in ascending order of keys."""

    def read(self, key: str) -> bytes:
        """The object's content. Raises FileNotFoundError where there is none."""


class Storage(ReadableStorage, Protocol):
    """Objects that can also be written.

    Every method raises UserError, with the reason, if the bucket or folder cannot be used
    (UnusableStorageError where that holds for every object), and JobFailedError if the server
    keeps failing.
    """

    def size(self, key: str) -> int | None:
        """The object's bytes, or None where there is none."""

    def stream(self, key: str) -> Iterator[bytes]:
        """The object's content in blocks. Raises FileNotFoundError where there is none."""

    def write(self, key: str, data: bytes) -> None:
        """Creates or replaces an object atomically: readers see the old or the new one, whole."""

    def write_new(self, key: str, data: bytes) -> None:
        """Creates an object atomically.

        It keeps apart what must not replace each other: two trainers' leases, and the settings and
        manifests of two prepare commands. See S3Storage for servers that cannot promise it.

        Raises:
            FileExistsError: If the object exists already, or another process writes it at the same
                moment. The existing one stays as it is.
        """

    def stage(self, key: str) -> AbstractContextManager[StagedFile]:
        """A local file to write: it becomes the object when the block ends, unless that raises."""

    def delete(self, key: str) -> None:
        """Removes an object; nothing happens where there is none."""

    def delete_folder(self, folder: str) -> None:
        """Removes everything below `folder/`: objects, markers, partial files and folders.

        Removes the root too if nothing else is in it.
        """

    def delete_partial(self) -> None:
        """Removes what killed writers left behind. Call it only while no writer is at work."""
