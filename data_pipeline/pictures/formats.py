"""What each file format can hold."""

from pathlib import Path
from typing import NamedTuple


class PictureFormat(NamedTuple):
    """A file format.

    Attributes:
        name: Its name in messages.
        suffixes: Of its files, lower case. The first is the usual one.
        max_side: Pixels of the longest side.
        bits: How many bits a sample can have.
        alpha: Whether it is written with transparency.
        quality: The default of 1 to 100; None if nothing is lost.
        max_bytes: Of the pixels, uncompressed; None if there is no limit.
    """

    name: str
    suffixes: tuple[str, ...]
    max_side: int
    bits: tuple[int, ...]
    alpha: bool
    quality: int | None
    max_bytes: int | None = None


# JPEG's side is libjpeg's limit; PNG's and TIFF's are this program's, far below the formats' own.
FORMATS = {
    "png": PictureFormat("PNG", (".png",), 1_000_000, (8, 16), True, None),
    "jpg": PictureFormat("JPEG", (".jpg", ".jpeg", ".jpe", ".jfif"), 65_500, (8,), False, 95),
    "webp": PictureFormat("WebP", (".webp",), 16_383, (8,), True, 95),
    "tif": PictureFormat("TIFF", (".tif", ".tiff"), 1_000_000, (8, 16), True, None),
    "bmp": PictureFormat("BMP", (".bmp",), 1_000_000, (8,), False, None, 2**32 - 2**12),
}

_MAGIC = {
    b"\x89PNG\r\n\x1a\n": "png",
    b"\xff\xd8\xff": "jpg",
    b"RIFF": "webp",
    b"II*\0": "tif",
    b"MM\0*": "tif",
    b"II+\0": "tif",
    b"MM\0+": "tif",
    b"BM": "bmp",
}


def format_of_suffix(path: Path) -> PictureFormat | None:
    """The format that a file's name promises, or None."""
    suffix = path.suffix.lower()
    return next((one for one in FORMATS.values() if suffix in one.suffixes), None)


def format_of_content(head: bytes) -> PictureFormat | None:
    """The format that a file's first bytes show, or None."""
    name = next((name for magic, name in _MAGIC.items() if head.startswith(magic)), None)
    if name is None or (name == "webp" and head[8:12] != b"WEBP"):
        return None
    return FORMATS[name]


def refusal(
    format: PictureFormat, *, height: int, width: int, bits: int, alpha: bool
) -> str | None:
    """Why a picture cannot become a file of this format, with the fix; None if it can."""
    name = format.name
    if max(height, width) > format.max_side:
        end = f"{name} ends at {format.max_side} px a side"
        fix = "choose a smaller size" if name in ("PNG", "TIFF") else _PNG_OR_SMALLER
        return f"becomes {width}x{height}: {end}; {fix}"
    if format.max_bytes is not None and height * width * 3 > format.max_bytes:
        return f"becomes {width}x{height}: {name} ends at 4 GB; {_PNG_OR_SMALLER}"
    if alpha and not format.alpha:
        return f"has transparency, {name} has none; choose PNG"
    if bits not in format.bits:
        return f"has {bits} bits, {name} has 8; choose PNG"
    return None


_PNG_OR_SMALLER = "choose PNG or a smaller size"
