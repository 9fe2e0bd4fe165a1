"""Reads TIFF files of one page."""

import ctypes
import io

from PIL import _imaging
from PIL.TiffImagePlugin import TiffImageFile

from data_pipeline.images.image import Image, ImageError
from data_pipeline.images.samples import check_header, check_no_zero_block, inflated, read_samples

_BITS, _PHOTOMETRIC, _PLANAR = 258, 262, 284
# Tags of the positions and lengths of strips, and of tiles.
_STRIPS, _TILES = (273, 279), (324, 325)
# LZW, PackBits and fax codes have no such run of zeros. A lost block of a disk has.
_ZEROS = 512
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
    positions, sizes = _TILES if _TILES[0] in header.tag_v2 else _STRIPS
    offsets, lengths = header.tag_v2[positions], header.tag_v2[sizes]
    if sum(lengths) > len(data):
        raise ImageError("does not decode: damaged: the TIFF is cut short")
    for offset, length in zip(offsets, lengths, strict=True):
        block = memoryview(data)[offset : offset + length]
        if compression not in _DEFLATE:
            check_no_zero_block(block, _ZEROS)
        elif not inflated([block])[1]:
            raise ImageError("does not decode: damaged: a strip of the TIFF is cut short")
