"""A few objects in memory: images travel so to workers that cannot open their archive."""

import errno
from collections.abc import Mapping

from data_pipeline.platform.storage.interface import ReadableStorage, StoredObject


class MemoryStorage:
    """Copies of objects. An object that could not be read raises its error when it is read here."""

    def __init__(self, storage: ReadableStorage, keys: list[str]) -> None:
        """Reads the objects `keys` of another storage."""
        self.uri = storage.uri
        self._objects: Mapping[str, bytes | OSError] = {
            key: _read_or_error(storage, key) for key in keys
        }

    def list(self, prefix: str = "") -> list[StoredObject]:
        """See ReadableStorage."""
        return sorted(
            StoredObject(key, len(data))
            for key, data in self._objects.items()
            if isinstance(data, bytes) and key.startswith(prefix)
        )

    def read(self, key: str) -> bytes:
        """See ReadableStorage."""
        if key not in self._objects:
            raise FileNotFoundError(errno.ENOENT, "no such object", f"{self.uri}/{key}")
        data = self._objects[key]
        if isinstance(data, OSError):
            raise data
        return data


def _read_or_error(storage: ReadableStorage, key: str) -> bytes | OSError:
    try:
        return storage.read(key)
    except OSError as error:
        return error
