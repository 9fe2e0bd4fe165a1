"""What a picture's file says beside its pixels. EXIF and XMP are made true of upright pixels."""

import re
import struct
from typing import NamedTuple

EXIF_HEAD = b"Exif\0\0"

_ORIENTATION, _THUMBNAIL_AT, _THUMBNAIL_BYTES = 0x0112, 0x0201, 0x0202
_SHORT = 3
_XMP_ORIENTATION = re.compile(rb"""(tiff:Orientation(?:\s*=\s*["']|\s*>\s*))\d+""")


class Metadata(NamedTuple):
    r"""Blocks as a file holds them; None where it has none.

    Attributes:
        profile: ICC profile.
        exif: EXIF, `Exif\0\0` first.
        xmp: XMP, as XML.
        iptc: IPTC, as JPEG holds it.
        resolution: Pixels per millimetre: horizontal, vertical.
    """

    profile: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    resolution: tuple[float, float] | None = None


def upright_exif(exif: bytes) -> bytes | None:
    r"""Sets the orientation to 1 and takes out the thumbnail, which was not turned or upscaled.

    The rest keeps its place: what cameras write (MakerNote) holds positions within the block.

    Args:
        exif: A block, with or without `Exif\0\0`.

    Returns:
        The block, `Exif\0\0` first; None if it is damaged.
    """
    block = bytearray(exif.removeprefix(EXIF_HEAD))
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(bytes(block[:4]))
    if order is None:
        return None
    try:
        (first,) = struct.unpack_from(f"{order}I", block, 4)
        for at in _entries(block, order, first):
            if struct.unpack_from(f"{order}H", block, at) == (_ORIENTATION,):
                struct.pack_into(f"{order}HIHH", block, at + 2, _SHORT, 1, 1, 0)
        (count,) = struct.unpack_from(f"{order}H", block, first)
        link = first + 2 + 12 * count
        (second,) = struct.unpack_from(f"{order}I", block, link)
        struct.pack_into(f"{order}I", block, link, 0)
        if second:
            _blank_thumbnail(block, order, second)
    except struct.error:  # a position outside of the block
        return None
    return EXIF_HEAD + bytes(block)


def _entries(block: bytearray, order: str, directory: int) -> range:
    """Where the entries of a directory of tags lie.

    Raises:
        struct.error: If it does not lie in the block.
    """
    (count,) = struct.unpack_from(f"{order}H", block, directory)
    return range(directory + 2, directory + 2 + 12 * count, 12)


def _blank_thumbnail(block: bytearray, order: str, directory: int) -> None:
    """Takes out the bytes of the thumbnail that a directory names: they are private, too."""
    values = {}
    for at in _entries(block, order, directory):
        tag, _, _, value = struct.unpack_from(f"{order}HHII", block, at)
        values[tag] = value
    start, length = values.get(_THUMBNAIL_AT, 0), values.get(_THUMBNAIL_BYTES, 0)
    if start + length >= len(block) > start > 8:
        del block[start:]
    elif start > 8:
        block[start : start + length] = bytes(length)


def upright_xmp(xmp: bytes) -> bytes:
    """Sets XMP's copy of the orientation to 1."""
    return _XMP_ORIENTATION.sub(rb"\g<1>1", xmp)


def fitting_profile(profile: bytes, channels: int) -> bool:
    """Whether an ICC profile is one of grey or RGB, as the picture is (ICC.1, section 7.2.6)."""
    return profile[16:20] == (b"GRAY" if channels == 1 else b"RGB ")
