"""Reads BMP files. They have no checksum: of damage, only a missing end can be seen."""

import io

from PIL.BmpImagePlugin import BmpImageFile

from data_pipeline.images.image import Image, ImageError
from data_pipeline.images.samples import check_header, read_samples

# A run of 255 pixels takes two bytes. Pillow decodes run lengths slowly, so a damaged header must
# not make it fill gigapixels.
_RUN_LENGTH_PIXELS_PER_BYTE = 128


def read_bmp(data: bytes) -> tuple[Image, int]:
    """Decodes a BMP file. See `decode_image`.

    Returns:
        uint8 [H, W, 1 or 3], upright. Grey if all colours of its palette are.
    """
    header = BmpImageFile(io.BytesIO(data))
    check_header(header)
    width, height = header.size
    run_lengths = header.tile[0].codec_name == "bmp_rle"
    if run_lengths and width * height > _RUN_LENGTH_PIXELS_PER_BYTE * len(data):
        raise ImageError(
            f"does not decode: damaged: {width}x{height} pixels cannot be in {len(data)} bytes"
        )
    return read_samples(header, lambda: BmpImageFile(io.BytesIO(data)), grey_palette=True), 1
