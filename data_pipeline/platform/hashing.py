"""sha256 of bytes, of a stream of blocks and of a file."""

import hashlib
import mmap
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import BinaryIO

_BLOCK = 1 << 20


def sha256_hex(data: bytes | memoryview | mmap.mmap) -> str:
    """sha256 of bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def stream_sha256(blocks: Iterable[bytes], copy: BinaryIO | None = None) -> tuple[str, int]:
    """Hashes a stream of blocks, and writes each block to `copy` if there is one.

    Returns:
        The stream's sha256 in hexadecimal, and its length in bytes.
    """
    digest, size = hashlib.sha256(), 0
    for block in blocks:
        if copy:
            copy.write(block)
        digest.update(block)
        size += len(block)
    return digest.hexdigest(), size


def file_sha256(path: Path) -> str:
    """sha256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return stream_sha256(iter(partial(file.read, _BLOCK), b""))[0]
