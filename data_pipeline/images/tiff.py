"""Reads TIFF files of one page."""

import ctypes
import io
from typing import BinaryIO

import numpy as np
from PIL import ImagePalette, _imaging
from PIL.TiffImagePlugin import COMPRESSION_INFO, ImageFileDirectory_v2, TiffImageFile

from data_pipeline.images.image import Image, ImageError
from data_pipeline.images.samples import (
    ZEROED,
    check_header,
    inflated,
    read_samples,
    zero_runs,
)

_SUBFILE, _BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES = 254, 258, 259, 262, 277
_TOP, _PLANAR, _PALETTE, _FORMAT, _SUBSAMPLING, _DNG = 281, 284, 320, 339, 530, 50706
_FORMATS = {2: "signed", 3: "float", 5: "complex", 6: "complex"}
# What Pillow says of whole files that it cannot read.
_UNKNOWN = (
    "unknown pixel mode",
    "Invalid value for samples per pixel",
    "string index out of range",
)
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
    try:
        header = TiffImageFile(io.BytesIO(data))
    except SyntaxError as error:
        tags = read_tags(io.BytesIO(data))
        check_kind(tags)
        if str(error) in _UNKNOWN:
            raise ImageError(_kind(tags)) from error
        raise
    tags = header.tag_v2
    check_kind(tags)
    check_header(header)
    bits = tags.get(_BITS, (1,))
    deep = max(bits) > 8
    if deep and set(bits) != {16}:
        raise ImageError(f"has {max(bits)}-bit samples; convert it to 8 bits")
    if deep and tags.get(_PLANAR, 1) == 2:
        raise ImageError("has 16-bit samples colour by colour; save them pixel by pixel")
    _check_blocks(header, data)
    if header.mode == "P" and max(tags[_PALETTE]) < 256:  # 8 bits where the format says 16
        header.palette = ImagePalette.raw("RGB;L", bytes(tags[_PALETTE]))
    inverted = deep and tags.get(_PHOTOMETRIC) == 0  # Pillow inverts only 8 bits
    image = read_samples(
        header,
        lambda: TiffImageFile(io.BytesIO(data)),
        bits=_bits_in_use(tags),
        zero_is_white=inverted,
    )
    if inverted:
        image = 255 - image
    return image, 1


def read_tags(file: BinaryIO) -> ImageFileDirectory_v2:
    """The first directory of a TIFF file, from its start."""
    head = file.read(8)
    tags = ImageFileDirectory_v2(head + file.read(8) if 43 in head[2:4] else head)
    file.seek(tags.next)
    tags.load(file)
    return tags


def check_kind(tags: ImageFileDirectory_v2) -> None:
    """Refuses what Pillow would read wrongly or call damaged.

    Raises:
        ImageError: Naming the kind, and the fix.
    """
    if _DNG in tags or tags.get(_PHOTOMETRIC) in (32803, 34892):
        raise ImageError("is a camera's raw file; develop it and save it as PNG")
    if tags.get(_SUBFILE, 0) & 1:
        raise ImageError("begins with a preview of its picture; save the whole picture as PNG")
    for kind in tags.get(_FORMAT, ()):
        if kind in _FORMATS:
            bits = max(tags.get(_BITS, (1,)))
            raise ImageError(
                f"has {bits}-bit {_FORMATS[kind]} samples; convert it to unsigned 8 bits"
            )
    compression = tags.get(_COMPRESSION, 1)
    if compression not in COMPRESSION_INFO:
        raise ImageError(
            f"is a TIFF whose compression ({compression}) cannot be read; save it with LZW"
        )
    if (
        compression == 1
        and tags.get(_PHOTOMETRIC) == 6
        and tags.get(_SUBSAMPLING, (2, 2)) != (1, 1)
    ):
        raise ImageError("is YCbCr with fewer samples of colour; convert it to RGB")


def _kind(tags: ImageFileDirectory_v2) -> str:
    """What a TIFF is that Pillow does not know."""
    bits = tags.get(_BITS, (1,))
    count = tags.get(_SAMPLES, 1)
    return (
        f"is a TIFF with {count} sample{'s' if count > 1 else ''} of {max(bits)} bits a pixel "
        f"(photometric interpretation {tags.get(_PHOTOMETRIC)}), which cannot be read; convert it "
        "to 8-bit grey or RGB without alpha"
    )


def _bits_in_use(tags: ImageFileDirectory_v2) -> int | None:
    """The bits of the largest sample that a TIFF names, if that is the largest of its bits."""
    top = tags.get(_TOP)
    largest = int(np.max(top)) if top is not None else 0
    return largest.bit_length() if largest and largest & (largest + 1) == 0 else None


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
    view = memoryview(data)
    blocks = [
        view[start : start + size] for start, size in sorted(zip(offsets, lengths, strict=True))
    ]
    if compression not in _DEFLATE:
        # Together: a lost block of a disk may be the end of a strip and the start of the next.
        if runs := zero_runs(b"".join(blocks), _ZEROS):
            raise ImageError(ZEROED.format(max(end - start for start, end in runs)))
    elif not all(inflated([block])[1] for block in blocks):
        raise ImageError("does not decode: damaged: a strip of the TIFF is cut short")
