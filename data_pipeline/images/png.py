"""Reads PNG files. All checksums are verified."""

import io
import zlib

import numpy as np
from PIL import PngImagePlugin
from PIL.PngImagePlugin import PngImageFile

from data_pipeline.images.image import Image, ImageError
from data_pipeline.images.samples import (
    TRANSPARENT,
    check_header,
    inflated,
    orientation,
    read_samples,
)

# Pillow refuses files with long texts, as colour profiles and editors' notes can be.
PngImagePlugin.MAX_TEXT_CHUNK = 2**26

# Adam7: first column, first row, steps between columns and rows of each pass of an interlaced PNG.
_PASSES = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)


def read_png(data: bytes) -> tuple[Image, int]:
    """Decodes a PNG file. See `decode_image`.

    Returns:
        uint8 [H, W, 1 or 3] as stored, and its EXIF orientation.
    """
    chunks = _checked_chunks(data)
    if b"CgBI" in chunks:
        raise ImageError("is a PNG for iOS (CgBI), no standard PNG; convert it to PNG")
    if b"acTL" in chunks:
        raise ImageError("is an animation (APNG); save one frame of it")
    header = PngImageFile(io.BytesIO(data))
    check_header(header)
    key = None
    if b"tRNS" in chunks:
        if header.mode == "P":
            _check_palette(header, chunks[b"tRNS"][0])
        else:
            key = _colour_key(data[24], chunks[b"tRNS"][0])
    bits = None
    if b"sBIT" in chunks:  # a byte for each colour, and for alpha
        bits = max(chunks[b"sBIT"][0][: 1 if data[25] in (0, 4) else 3], default=None)
    image = read_samples(header, lambda: PngImageFile(io.BytesIO(data)), key=key, bits=bits)
    # Pillow takes a short stream: missing rows become zero, or the first colour of a palette.
    if header.mode == "P" or not image[-2:].any(axis=(1, 2)).all():
        _check_length(data, chunks[b"IDAT"])
    return image, orientation(header)  # its block may come after the pixels


def _checked_chunks(data: bytes) -> dict[bytes, list[memoryview]]:
    """The bodies of a PNG's chunks by type.

    Raises:
        ImageError: If a chunk's checksum is wrong, or the file ends before its last chunk.
    """
    chunks: dict[bytes, list[memoryview]] = {}
    view = memoryview(data)
    start = 8
    while b"IEND" not in chunks:
        length = int.from_bytes(view[start : start + 4], "big")
        end = start + 8 + length
        if end + 4 > len(data):
            raise ImageError("does not decode: damaged: the PNG is cut short")
        kind = bytes(view[start + 4 : start + 8])
        if zlib.crc32(view[start + 4 : end]) != int.from_bytes(view[end : end + 4], "big"):
            raise ImageError(
                f"does not decode: damaged: wrong checksum of the PNG's chunk {kind!r} at {start}"
            )
        chunks.setdefault(kind, []).append(view[start + 8 : end])
        start = end + 4
    return chunks


def _check_palette(header: PngImageFile, alphas: memoryview) -> None:
    """Raises ImageError if a pixel has a colour of the palette that is not opaque."""
    used = np.array(header.histogram()[: len(alphas)]) > 0
    if (np.frombuffer(alphas, np.uint8)[: len(used)][used] < 255).any():
        raise ImageError(TRANSPARENT)


def _colour_key(depth: int, chunk: memoryview) -> tuple[int, ...]:
    """The colour that a PNG calls transparent, as Pillow scales it: 8 bits, or 16 as stored."""
    top = 2**depth - 1
    values = np.frombuffer(chunk, ">u2").astype(int) & top
    return tuple(values if depth == 16 else values * 255 // top)


def _check_length(data: bytes, parts: list[memoryview]) -> None:
    """Raises ImageError if a PNG's stream holds fewer bytes than its pixels need."""
    width, height = (int.from_bytes(data[at : at + 4], "big") for at in (16, 20))
    depth, colours, interlaced = data[24], data[25], data[28]
    bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colours]
    expected = 0
    for column, row, across, down in _PASSES if interlaced else ((0, 0, 1, 1),):
        columns, rows = -(-(width - column) // across), -(-(height - row) // down)
        if columns > 0 and rows > 0:
            expected += rows * (1 + -(-columns * bits // 8))
    found, _ = inflated(parts)
    if found < expected:
        raise ImageError(f"does not decode: damaged: {found} bytes of pixels instead of {expected}")
