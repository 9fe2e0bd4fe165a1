"""Bands of rows -> an uncompressed PNG, byte by byte: how libvips takes a picture that grows."""

import zlib
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

# libvips holds as many decoded rows as it was given at once.
_ROWS = 64
_COLOURS = {1: 0, 2: 4, 3: 2, 4: 6}  # channels -> PNG's colour type


def uncompressed_png(
    bands: Iterable[npt.NDArray[np.unsignedinteger]],
    *,
    height: int,
    width: int,
    channels: int,
    bits: int,
) -> Iterator[bytes]:
    """Yields a PNG's bytes while its rows come (RFC 2083; deflate's stored blocks, RFC 1951).

    Args:
        bands: uint8 or uint16 [rows, width, channels], from the top.
        height: Rows of all bands.
        width: Pixels of a row.
        channels: 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha.
        bits: 8 or 16.
    """
    size = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    kind = bytes((bits, _COLOURS[channels], 0, 0, 0))
    yield b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", size + kind)
    stored = zlib.compressobj(0)
    for band in bands:
        for start in range(0, len(band), _ROWS):
            rows = band[start : start + _ROWS]
            samples = np.ascontiguousarray(rows, dtype=f">u{bits // 8}").reshape(len(rows), -1)
            filtered = np.zeros((len(rows), 1 + samples.nbytes // len(rows)), np.uint8)
            filtered[:, 1:] = samples.view(np.uint8)  # before them: filter 0, none
            yield _chunk(b"IDAT", stored.compress(filtered.data))
    yield _chunk(b"IDAT", stored.flush()) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, body: bytes) -> bytes:
    checksum = zlib.crc32(body, zlib.crc32(kind))
    return len(body).to_bytes(4, "big") + kind + body + checksum.to_bytes(4, "big")
