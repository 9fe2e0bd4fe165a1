"""Reads WebP files. They have no checksum: damage is a missing end or a range of zeros."""

import io

from PIL.WebPImagePlugin import WebPImageFile

from data_pipeline.images.image import Image, ImageError
from data_pipeline.images.samples import (
    check_header,
    check_no_zero_block,
    orientation,
    read_samples,
)

# A lost block is zeros. So is a flat picture: at worst a byte for 355 pixels (libwebp's method 0;
# the default method takes a byte for 10,000). Photographs have runs below 30 bytes.
_ZEROS = 256
_FLAT_PIXELS_PER_BYTE = 300


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
    zeros = max(_ZEROS, header.width * header.height // _FLAT_PIXELS_PER_BYTE)
    start = 12
    while start + 8 <= len(data):
        end = start + 8 + int.from_bytes(view[start + 4 : start + 8], "little")
        if data[start : start + 4] in (b"VP8 ", b"VP8L"):
            check_no_zero_block(view[start + 8 : end], zeros)
        start = end + end % 2
    return read_samples(header, lambda: WebPImageFile(io.BytesIO(data))), orientation(header)
