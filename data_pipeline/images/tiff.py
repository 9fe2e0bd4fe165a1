"""Reads TIFF files of one page."""

import ctypes
import io
import zlib

from PIL import _imaging
from PIL.TiffImagePlugin import TiffImageFile

from data_pipeline.images.image import Image, ImageError
from data_pipeline.images.samples import check_header, check_no_zero_block, read_samples

_BITS, _COMPRESSION, _PHOTOMETRIC, _PLANAR = 258, 259, 262, 284
# Tags of the positions and lengths of strips, or of tiles.
_BLOCKS = ((273, 279), (324, 325))
_DEFLATE = ("tiff_adobe_deflate", "tiff_deflate")

# libtiff writes to stderr what it also returns as an error.
_libtiff = ctypes.CDLL(_imaging.__file__)
if hasattr(_libtiff, "TIFFSetErrorHandler"):
    _libtiff.TIFFSetErrorHandler(None)
    _libtiff.TIFFSetWarningHandler(None)


def read_tiff(data: bytes) -> tuple[Image, int]:
    """Decodes a TIFF file. See `decode_image`.

    Returns:
        uint8 [H, W, 1 or 3], upright: Pillow turns a TIFF itself.
    """
    header = TiffImageFile(io.BytesIO(data))
    check_header(header)
    bits = header.tag_v2.get(_BITS, (1,))
    deep = max(bits) > 8
    if deep and set(bits) != {16}:
        raise ImageError(f"has {max(bits)}-bit samples; convert it to 8 bits")
    if deep and header.tag_v2.get(_PLANAR, 1) == 2:
        raise ImageError("has 16-bit samples colour by colour; save them pixel by pixel")
    _check_blocks(header, data)
    image = read_samples(header, lambda: TiffImageFile(io.BytesIO(data)))
    if deep and header.tag_v2.get(_PHOTOMETRIC) == 0:  # zero is white; Pillow inverts only 8 bits
        image = 255 - image
    return image, 1


def _check_blocks(header: TiffImageFile, data: bytes) -> None:
    """Refuses damage of strips or tiles that the decoder does not see.

    Raises:
        ImageError: If one lies outside of the file, a checksum is wrong, or a part of the image is
            in none.
    """
    compression = header.info["compression"]
    if "jpeg" in compression or compression == "webp":
        raise ImageError(
            "is a TIFF with JPEG or WebP inside, where damage cannot be seen; save it with LZW "
            "or without compression"
        )
    if compression == "raw":
        boxes = [tile.extents for tile in header.tile if tile.extents is not None]
        covered = sum((right - left) * (low - top) for left, top, right, low in boxes)
        layers = len(header.getbands()) if header.tag_v2.get(_PLANAR, 1) == 2 else 1
        if covered < header.width * header.height * layers:
            raise ImageError("does not decode: damaged: strips of the TIFF are missing")
        return
    offsets, lengths = next(
        (header.tag_v2[at], header.tag_v2[length]) for at, length in _BLOCKS if at in header.tag_v2
    )
    if sum(lengths) > len(data):
        raise ImageError("does not decode: damaged: the TIFF is cut short")
    for offset, length in zip(offsets, lengths, strict=True):
        block = memoryview(data)[offset : offset + length]
        if compression in _DEFLATE:
            _check_deflated(block)
        else:
            check_no_zero_block(block)


def _check_deflated(block: memoryview) -> None:
    """Raises ImageError if a zlib stream has no end, zlib.error if its checksum is wrong."""
    stream = zlib.decompressobj()
    rest = bytes(block)
    while rest:
        stream.decompress(rest, 2**20)
        rest = stream.unconsumed_tail
    if not stream.eof:
        raise ImageError("does not decode: damaged: a strip of the TIFF is cut short")
