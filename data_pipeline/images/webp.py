"""Reads WebP files. They have no checksum: damage is a missing end or a range of zeros."""

import io

import numpy as np
from PIL.WebPImagePlugin import WebPImageFile

from data_pipeline.images.image import Image, ImageError
from data_pipeline.images.samples import (
    ZEROED,
    check_header,
    longest_zero_run,
    orientation,
    read_samples,
)

# A lost block of a disk is 512 zeros or more. Photographs have runs below 60 bytes.
_ZEROS = 256
# A flat or smooth part of a picture is zeros, too: a byte for 300 pixels (libwebp's method 0) to
# 10,000 (its default), so for a block of 16x16 or more. A lost block decodes to fewer flat ones.
_BLOCK = 16


def read_webp(data: bytes) -> tuple[Image, int]:
    """Decodes a WebP file. See `decode_image`.

    Returns:
        uint8 [H, W, 3] as stored, and its EXIF orientation.
    """
    if data[8:12] != b"WEBP":
        raise ImageError("does not decode: it is a RIFF file (sound or film), not a WebP image")
    header = WebPImageFile(io.BytesIO(data))
    check_header(header)
    view = memoryview(data)
    start, zeros = 12, 0
    while start + 8 <= len(data):
        end = start + 8 + int.from_bytes(view[start + 4 : start + 8], "little")
        if data[start : start + 4] in (b"VP8 ", b"VP8L"):
            zeros = max(zeros, longest_zero_run(view[start + 8 : end], _ZEROS))
        start = end + end % 2
    image = read_samples(header, lambda: WebPImageFile(io.BytesIO(data)))
    if zeros and zeros > _flat_blocks(image):
        raise ImageError(ZEROED.format(zeros))
    return image, orientation(header)


def _flat_blocks(image: Image) -> int:
    """How many flat blocks follow each other at most. WebP stores blocks of 16x16, row by row.

    A block is flat if the values of each colour differ by 2 at most.
    """
    rows, columns = image.shape[0] // _BLOCK, image.shape[1] // _BLOCK
    whole = image[: rows * _BLOCK, : columns * _BLOCK]
    blocks = whole.reshape(rows, _BLOCK, columns, _BLOCK, -1)
    flat = (np.ptp(blocks, axis=(1, 3)) <= 2).all(axis=2).ravel()
    ends = np.flatnonzero(np.diff(flat, prepend=False, append=False))
    return int((ends[1::2] - ends[::2]).max(initial=0))
