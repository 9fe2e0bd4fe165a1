"""What the readers share: files that Pillow has opened -> arrays of 8-bit samples."""

import logging
import re
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import numpy.typing as npt
import PIL.Image
from PIL.ImageFile import ImageFile

from data_pipeline.images.image import Image, ImageError

MAX_PIXELS = 2**30
MAX_SIDE = 2**20
ZEROED = (
    "does not decode: damaged: {} bytes of its compressed pixels are zero; if it looks right in a "
    "viewer, save it as PNG"
)
TRANSPARENT = "is partly transparent; flatten it onto a background"

_REFUSED = {
    "CMYK": "is CMYK; convert it to RGB",
    "LAB": "is CIELAB; convert it to RGB",
    "I": "has 32-bit samples; convert it to 8 bits",
}
# Pillow's mode -> the mode that is read from it.
_MODES = {mode: mode for mode in ("L", "LA", "RGB", "RGBA", "I;16", "I;16B")}
_MODES |= {"1": "L", "P": "RGB", "YCbCr": "RGB", "La": "LA", "PA": "RGBA"}
# So many rows are converted at once: few enough to take little memory beside the image.
_ROWS = 256

# `check_header` has a limit of its own. Pillow's is lower and knows no way to name the file.
PIL.Image.MAX_IMAGE_PIXELS = None
# Errors come as exceptions; a line of Pillow's in the log does not name the file.
logging.getLogger("PIL").setLevel(logging.CRITICAL)


def check_header(file: ImageFile) -> None:
    """Refuses what is not one picture, too large, or neither grey nor RGB.

    Args:
        file: As Pillow opened it; its pixels need not be read.

    Raises:
        ImageError: Naming what the file is, and the fix.
    """
    width, height = file.size
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise ImageError(
            f"is too large: {width}x{height} pixels are more than {MAX_PIXELS:,}, or a side is "
            f"above {MAX_SIDE:,}; cut it into parts"
        )
    if getattr(file, "is_animated", False):
        raise ImageError("holds several pages or frames; save one of them")
    if file.mode not in _MODES:
        raise ImageError(_REFUSED.get(file.mode, f"is {file.mode}; convert it to RGB"))


def orientation(file: ImageFile) -> int:
    """EXIF's tag 0x0112 of a file whose pixels Pillow does not turn; 1 if it cannot be read."""
    block = file.info.get("exif")
    # ImageMagick wrote the block as hexadecimal text before PNG had a place for it.
    text = str(file.info.get("Raw profile type exif", ""))
    exif = PIL.Image.Exif()
    try:
        exif.load(block or bytes.fromhex("".join(text.split("\n")[3:])))
        return int(exif.get(0x0112, 1))
    except Exception:  # cameras and editors damage EXIF blocks; viewers ignore those, too
        return 1


def zero_runs(compressed: bytes | memoryview, least: int) -> list[tuple[int, int]]:
    """Where runs of `least` zero bytes or more begin and end."""
    data = bytes(compressed)
    if bytes(least) not in data:  # ten times faster than the expression below
        return []
    return [one.span() for one in re.finditer(rb"\0{%d,}" % least, data)]


def inflated(parts: Iterable[memoryview]) -> tuple[int, bool]:
    """How many bytes a zlib stream in parts holds, and whether it has an end.

    Raises:
        zlib.error: If its checksum is wrong, or it is no such stream.
    """
    stream = zlib.decompressobj()
    found = 0
    for part in parts:
        rest = bytes(part)
        while rest or not stream.eof:
            piece = stream.decompress(rest, 2**20)
            rest = stream.unconsumed_tail
            found += len(piece)
            if not piece and not rest:
                break
    return found, stream.eof


def read_samples(
    file: ImageFile,
    reopen: Callable[[], ImageFile],
    *,
    key: tuple[int, ...] | None = None,
    grey_palette: bool = False,
    bits: int | None = None,
    zero_is_white: bool = False,
) -> Image:
    """Reads the pixels of a file.

    Args:
        file: As Pillow opened it. It holds the pixels afterwards.
        reopen: Opens it again: 16-bit colours are read twice.
        key: A colour that means transparent, in the range of the file's samples.
        grey_palette: Whether an image with a palette of greys is grey.
        bits: How many bits of 16-bit samples the file says that it uses, if it says so.
        zero_is_white: Whether 16-bit samples mean the opposite. They are not changed here.

    Returns:
        uint8 [H, W, 1 or 3]. A 16-bit sample v becomes v / 257, rounded.

    Raises:
        ImageError: If a pixel is not opaque, or 16-bit samples hold fewer bits. See `_check_range`.
        Exception: What Pillow raises for a damaged file.
    """
    image: Image | None = None
    row = 0
    counts = np.zeros(2**16, np.int64)
    for samples in _strips(file, reopen, grey_palette):
        channels = samples.shape[2]
        if channels in (2, 4) and samples[:, :, -1].min() < np.iinfo(samples.dtype).max:
            raise ImageError(TRANSPARENT)
        colours = samples[:, :, : 1 if channels <= 2 else 3]
        if key is not None and (colours == np.array(key)).all(axis=2).any():
            raise ImageError(TRANSPARENT)
        if colours.dtype != np.uint8:
            counts += np.bincount(colours.ravel(), minlength=2**16)
            colours = (colours.astype(np.uint32) + 128) // 257
        if image is None:
            image = np.empty((file.height, file.width, colours.shape[2]), np.uint8)
        image[row : row + len(colours)] = colours
        row += len(colours)
    _check_range(counts[::-1] if zero_is_white else counts, bits)
    assert image is not None  # Pillow refuses files without pixels
    return image


def _check_range(counts: npt.NDArray[np.int64], bits: int | None) -> None:
    """Refuses 16-bit samples that hold fewer bits: read as 16 bits they are nearly black.

    All but the brightest 0.1 % of the samples count, zeros left out: a few hot pixels hide nothing,
    nor does a white stamp. Values are right, however dark, where all are multiples of 257 (8 bits,
    scaled up) or of 64, 128 or 256 (10 to 8 bits, moved up); and above 4095 also where all are
    multiples of 16 or 32 (12 or 11 bits, moved up), or the file says that it uses 16 bits.

    Args:
        counts: [65536], how often each value occurs.
        bits: How many bits the file says that it uses. None, and 16 for values below 4096: they are
            taken for 12 to 14 bits where they end there. 16 is also what writers say by default.

    Raises:
        ImageError: Naming the bits, and the fix.
    """
    values = np.flatnonzero(counts[1:]) + 1
    if not values.size:
        return
    if values[-1] == 2**16 - 1 and values.size > 1 and values[-2] < 2**14:
        values = values[:-1]  # white, and nothing up to it
    ranked = np.cumsum(counts[values])
    high = int(values[np.searchsorted(ranked, ranked[-1] - ranked[-1] // 1000)])
    step = int(np.gcd.reduce(values))
    scaled = step % 257 == 0 or step in (64, 128, 256)
    plausible = high >= 2**12 and (step in (16, 32) or bits == 16)
    stated = bits if bits and bits < 16 else 14
    if high < 2**stated and not scaled and not plausible:
        found = max(12, high.bit_length())
        raise ImageError(
            f"holds {found} bits or fewer in 16-bit samples; scale its values, which end at about "
            f"{high}, to the full 16 bits, or save it with 8 bits if it is meant to be so dark"
        )


def _strips(
    file: ImageFile, reopen: Callable[[], ImageFile], grey_palette: bool
) -> Iterator[npt.NDArray[np.unsignedinteger]]:
    """Yields uint8 or uint16 [rows, W, 1 to 4]: grey, grey and alpha, RGB, or RGB and alpha."""
    args = (file.tile[0].args if file.tile else None) or ""
    raw = args if isinstance(args, str) else str(args[0])  # how the file stores its pixels
    low: ImageFile | None = None
    if raw == "LA;16B":  # Pillow has no such mode: both bytes of both samples are read as RGBA
        _read_as(file, "RGBA")
    elif raw[:-1] in ("RGB;16", "RGBX;16", "RGBA;16"):
        # Pillow reads the high byte only. Taken for the other byte order, it reads the low one.
        little = raw[-1] == "L" or (raw[-1] == "N" and sys.byteorder == "little")
        low = _read_as(reopen(), raw[:-1] + ("B" if little else "L"))
        low.load()
    elif raw.startswith("RGBa;16"):
        raise ImageError("has 16-bit colours multiplied by alpha; flatten it onto a background")
    file.load()
    file.info.pop("transparency", None)  # the PNG reader checks it
    mode = _MODES[file.mode]
    if grey_palette and file.mode == "P":
        palette = np.array(file.getpalette()).reshape(-1, 3)
        mode = "L" if (palette == palette[:, :1]).all() else mode
    for top in range(0, file.height, _ROWS):
        box = (0, top, file.width, min(top + _ROWS, file.height))
        strip = file.crop(box)
        samples = np.atleast_3d(np.asarray(strip if strip.mode == mode else strip.convert(mode)))
        if low is not None:
            samples = samples.astype(np.uint16) << 8 | np.asarray(low.crop(box))
        yield samples.view(">u2") if raw == "LA;16B" else samples


def _read_as(file: ImageFile, raw: str) -> ImageFile:
    """Makes Pillow take a file's pixels for stored in another way."""
    file.tile = [
        tile._replace(args=raw if isinstance(tile.args, str) else (raw, *(tile.args or ())[1:]))
        for tile in file.tile
    ]
    return file
