"""Image files -> arrays. The first bytes of a file, not its name, decide which reader takes it."""

import warnings
from collections.abc import Callable

import numpy as np

from data_pipeline.images.bmp import read_bmp
from data_pipeline.images.image import Image, ImageError
from data_pipeline.images.jpeg import read_jpeg
from data_pipeline.images.png import read_png
from data_pipeline.images.tiff import read_tiff
from data_pipeline.images.webp import read_webp

SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".webp", ".tif", ".tiff")

_READERS: dict[bytes, Callable[[bytes], tuple[Image, int]]] = {
    b"\x89PNG\r\n\x1a\n": read_png,
    b"\xff\xd8\xff": read_jpeg,
    b"BM": read_bmp,
    b"RIFF": read_webp,
    b"II*\0": read_tiff,
    b"MM\0*": read_tiff,
    b"II+\0": read_tiff,
    b"MM\0+": read_tiff,
}

# What else lies under an image's name: offset, bytes there in lower case, what it is.
_OTHERS = (
    (0, b"gif8", "a GIF file; convert it to PNG"),
    (4, b"ftypavi", "an AVIF file; convert it to PNG"),
    (4, b"ftyphei", "a HEIC file; convert it to PNG"),
    (4, b"ftypmif1", "a HEIC file; convert it to PNG"),
    (4, b"jxl ", "a JPEG XL file; convert it to PNG"),
    (0, b"\xff\x0a", "a JPEG XL file; convert it to PNG"),
    (4, b"jp  ", "a JPEG 2000 file; convert it to PNG"),
    (0, b"8bps", "a Photoshop file; convert it to PNG"),
    (0, b"%pdf", "a PDF file; convert its pictures to PNG"),
    (0, b"<svg", "an SVG drawing; convert it to PNG"),
    (0, b"<?xml", "an XML file or SVG drawing; convert it to PNG"),
    (0, b"<!doctype html", "an HTML page, not an image; download it again"),
    (0, b"<html", "an HTML page, not an image; download it again"),
    (0, b"version https://git-lfs", "a pointer of Git LFS; run `git lfs pull`"),
)

# The libraries say so of whole files of a kind that they cannot read.
_UNSUPPORTED = ("unsupported", "not supported", "cannot handle", "unknown raw mode")


def decode_image(data: bytes) -> Image:
    """Decodes a PNG, JPEG, BMP, WebP or TIFF file.

    Rounds 16-bit samples to 8 bits, turns the image as its EXIF orientation says, and drops an
    alpha channel that is opaque everywhere.

    Args:
        data: The file's bytes.

    Returns:
        uint8 [H, W, 1] for a grey image, else uint8 [H, W, 3] RGB.

    Raises:
        ImageError: If the file is damaged or another kind of file, is not one picture, or holds
            what is not 8-bit grey or RGB: transparency, CMYK, float or unscaled samples.
    """
    reader = next((read for magic, read in _READERS.items() if data.startswith(magic)), None)
    if reader is None:
        raise ImageError(f"does not decode: it is {kind_of_unknown(data)}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's do not name the file
            image, orientation = reader(data)
    except ImageError:
        raise
    except Exception as error:  # the libraries raise a dozen types for a damaged file
        words = " ".join(str(error).split())[:120]
        if not any(letter.isalpha() for letter in words):  # the number of a tag, or nothing
            words = f"its header is wrong ({type(error).__name__} {words})"
        if any(word in words.lower() for word in _UNSUPPORTED):
            raise ImageError(f"does not decode: {words}; convert it to PNG") from error
        raise ImageError(f"does not decode: damaged: {words}") from error
    return _turned(image, orientation)


def kind_of_unknown(data: bytes) -> str:
    """What a file is that no reader takes, and what to do about it. Its first 4096 bytes do."""
    if not any(data[:4096]):
        return "filled with zeros; copy it again" if data else "empty; copy it again"
    head = data[:64].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for offset, magic, kind in _OTHERS:
        if head[offset:].startswith(magic):
            return kind
    return "not a PNG, JPEG, BMP, WebP or TIFF file"


def _turned(image: Image, orientation: int) -> Image:
    """Turns an image upright.

    Args:
        image: [H, W, C] as it is stored.
        orientation: EXIF's tag 0x0112: 2 mirrored, 3 turned by 180 degrees, 4 both; 5 to 8 the
            same with rows and columns exchanged. Other values mean that the image is upright.
    """
    if orientation in (5, 6, 7, 8):
        image = image.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return np.ascontiguousarray(image)
