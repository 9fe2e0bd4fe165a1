"""Object storage behind one small interface: a local folder, or a prefix of an S3 bucket."""

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from data_pipeline.platform.errors import UserError
from data_pipeline.platform.storage.interface import (
    ReadableStorage,
    Storage,
    StoredObject,
    UnusableStorageError,
)
from data_pipeline.platform.storage.local import LocalStorage

# A server is slow to answer, not slow to send. The S3 client has connections for all of them.
_THREADS = 16

T = TypeVar("T")
R = TypeVar("R")

__all__ = [
    "LocalStorage",
    "ReadableStorage",
    "Storage",
    "StoredObject",
    "UnusableStorageError",
    "in_threads",
    "open_file",
    "open_storage",
    "read_many",
]


def open_storage(uri: str, *, follow_links: bool = False) -> Storage:
    """Opens the storage that a URI names; creates nothing and calls no server.

    Args:
        uri: A local path, a file:// URI, or s3://bucket/prefix. Relative paths are made absolute.
        follow_links: Whether the listing of a local folder enters linked folders; for sources.

    Raises:
        UserError: If the scheme is not supported, the bucket has no name or the path is a file.
    """
    if not uri:
        raise UserError("an empty path was given; pass a folder or s3://bucket/prefix")
    scheme, separator, rest = uri.partition("://")
    if separator and scheme == "s3":
        from data_pipeline.platform.storage.s3 import (
            S3Storage,  # boto3 is heavy, and local runs need none
        )

        return S3Storage(uri)
    if separator and scheme != "file":
        raise UserError(f"{uri}: {scheme}:// is not supported; pass a folder or s3://bucket/prefix")
    root = Path(os.path.abspath(Path(rest if separator else uri).expanduser()))  # without ".."
    if root.exists() and not root.is_dir():
        raise UserError(f"{root}: is a file; pass a folder")
    return LocalStorage(root, follow_links=follow_links)


def read_many(storage: ReadableStorage, keys: Sequence[str]) -> dict[str, bytes]:
    """Reads small objects in threads; returns their contents by key, in the order of `keys`.

    Raises:
        FileNotFoundError: If one is not there.
    """
    return dict(zip(keys, in_threads(storage.read, keys), strict=True))


def in_threads(function: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """Maps a function that waits for a storage over items in threads, keeping order.

    The first error in that order is raised; items that no thread has begun are left out then.
    """
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(function, items))


def open_file(uri: str) -> tuple[Storage, str]:
    """The storage of the folder that holds a file, and the file's key in it ("" for a folder).

    Args:
        uri: A file's local path, file:// or s3:// URI.

    Raises:
        UserError: As `open_storage`.
    """
    key = uri.rpartition("/")[2]
    return open_storage(uri.removesuffix(key) or "."), key
