"""What a storage can do. Every byte of sources, DATA and RUN goes through here."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple, Protocol


class StoredObject(NamedTuple):
    """One listed object: its key below the storage's root and its size in bytes."""

    key: str
    size: int


class ReadableStorage(Protocol):
    """Objects under one root URI, named by keys such as `train/00000.arrow`. Can be pickled."""

    uri: str

    def list(self, prefix: str = "") -> list[StoredObject]:
        """Whole objects whose key starts with `prefix`, in ascending order of keys."""

    def read(self, key: str) -> bytes:
        """The object's content. Raises FileNotFoundError where there is none."""


class Storage(ReadableStorage, Protocol):
    """Objects that can also be written.

    Where a bucket or a folder cannot be used at all, every method raises UserError with the
    reason; a server that keeps failing raises JobFailedError.
    """

    def size(self, key: str) -> int | None:
        """The object's bytes, or None where there is none."""

    def stream(self, key: str) -> Iterator[bytes]:
        """The object's content in blocks. Raises FileNotFoundError where there is none."""

    def write(self, key: str, data: bytes) -> None:
        """Creates or replaces an object atomically: readers see the old or the new one, whole."""

    def write_new(self, key: str, data: bytes) -> None:
        """Creates an object atomically.

        Raises:
            FileExistsError: If there is one already, also one that another process is writing at
                the same moment. It is left as it is.
        """

    def stage(self, key: str) -> AbstractContextManager[Path]:
        """A local path to write to: the object when the block ends, gone if the block raises."""

    def delete(self, key: str) -> None:
        """Removes an object; nothing happens where there is none."""

    def delete_folder(self, folder: str) -> None:
        """Removes all below `folder/`, also what is no object: markers, partial files, folders.

        The root goes too if nothing else is in it.
        """

    def delete_partial(self) -> None:
        """Removes what writers that were killed left behind. Only while no writer is at work."""
