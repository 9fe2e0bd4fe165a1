"""Reads JPEG files. libjpeg-turbo decodes them; what it warns of is an error here."""

import io
import re

import simplejpeg
from PIL.JpegImagePlugin import JpegImageFile

from data_pipeline.images.image import Image, ImageError
from data_pipeline.images.samples import check_header, orientation

# Huffman coding spends at least a bit on a block of 64 pixels: 512 pixels a byte. The limit keeps
# a damaged header from taking gigabytes of memory.
_PIXELS_PER_BYTE = 1024

# Warnings of libjpeg that are not about pixels: a word of each, the bytes that it is about, and
# bytes without a fault. These are the version of JFIF, parameters of a scan that only progressive
# files use (some encoders write zeros), and a colour profile, which is not read.
_HARMLESS = (
    ("JFIF revision", rb"(\xff\xe0..JFIF\0).", b"\\1\x01"),
    (
        "Invalid SOS parameters for sequential",
        rb"(\xff\xda\0(?:\x08\x01..|\x0a\x02.{4}|\x0c\x03.{6})).{3}",
        b"\\1\0\x3f\0",
    ),
    ("bad ICC marker", rb"(\xff\xe2..)ICC_PROFILE\0", b"\\1no profile.\0"),
)


def read_jpeg(data: bytes) -> tuple[Image, int]:
    """Decodes a JPEG file; of an MPO file, its first picture. See `decode_image`.

    Returns:
        uint8 [H, W, 1 or 3] as stored, and its EXIF orientation.
    """
    try:
        header = JpegImageFile(io.BytesIO(data))
    except SyntaxError as error:
        if deep := re.search(r"(\d+)-bit layers", str(error)):
            raise ImageError(f"has {deep[1]}-bit samples; convert it to 8 bits") from error
        raise
    check_header(header)
    width, height = header.size
    if width * height > _PIXELS_PER_BYTE * len(data):
        raise ImageError(
            f"does not decode: damaged: {width}x{height} pixels cannot be in {len(data)} bytes"
        )
    try:
        image = _decoded(data, "GRAY" if header.mode == "L" else "RGB")
    except ValueError as error:
        if "subsampling" in str(error):
            raise ImageError(
                "does not decode: damaged, or an unusual chroma subsampling; save it as 4:4:4"
            ) from error
        raise
    if image.shape[:2] != (height, width):
        raise ImageError(
            f"does not decode: damaged: {image.shape[1]}x{image.shape[0]} pixels, "
            f"but its header says {width}x{height}"
        )
    return image, orientation(header)


def _decoded(data: bytes, colours: str) -> Image:
    """The pixels. Warnings are errors: a file that lost its second half decodes with a warning.

    Raises:
        ValueError: With libjpeg's message.
    """
    try:
        image: Image = simplejpeg.decode_jpeg(data, colorspace=colours, strict=True)
    except ValueError as error:
        for words, fault, right in _HARMLESS:
            if words in str(error):
                mended = re.sub(fault, right, data, flags=re.DOTALL)
                if mended != data:
                    return _decoded(mended, colours)
        raise
    return image
