"""People's picture files -> samples, transparency and metadata. The content chooses the reader.

Training data has a reader of its own, `data_pipeline.images`, which refuses more.
"""

import re
import warnings
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from data_pipeline.images import ImageError, decode_image, kind_of_unknown
from data_pipeline.images.tiff import check_kind, read_tags
from data_pipeline.pictures.formats import FORMATS, PictureFormat, format_of_content
from data_pipeline.pictures.metadata import (
    Metadata,
    fitting_profile,
    upright_exif,
    upright_xmp,
)
from data_pipeline.pictures.tiff_exif import exif_of_tiff
from data_pipeline.pictures.vips import block, libvips, opened, reason

Samples = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]

MAX_PIXELS = 2**28
_HEAD = 4096
_ROWS = 256  # decoded at once
_GREY, _RGB = ("b-w", "grey16"), ("srgb", "rgb16")
_DEPTHS: dict[str, np.dtype[np.uint8] | np.dtype[np.uint16]] = {
    "uchar": np.dtype(np.uint8),
    "ushort": np.dtype(np.uint16),
}
_PHOTOMETRIC, _CIELAB = 262, (8, 9, 10)  # a tag of TIFF
# Where a JPEG says that more pictures follow: MPO, also Ultra HDR's gain map.
_MORE_PICTURES = re.compile(rb"\xff\xe2..MPF\0", re.DOTALL)
_BEFORE_PIXELS = 2**19


class Picture(NamedTuple):
    """A picture, upright.

    Attributes:
        samples: uint8 or uint16 [H, W, 1 or 3]: grey or RGB, as the profile says.
        alpha: [H, W] of the same type, the largest value is opaque; None if the file has none.
        metadata: True of the upright picture.
        format: Of the file.
        notes: What its owner should know of the reading, a sentence each.
    """

    samples: Samples
    alpha: Samples | None
    metadata: Metadata
    format: PictureFormat
    notes: tuple[str, ...]


def read_picture(path: Path) -> Picture:
    """Reads a PNG, JPEG, WebP, TIFF or BMP file.

    Turns the picture as its orientation says, expands palettes and 1-bit samples, and converts CMYK
    to sRGB. Takes the memory of the samples once (twice if it is turned), and of a few rows.

    Raises:
        ImageError: If the file is damaged, another kind of file, not one picture, too large, or
            holds samples that are not 8 or 16 bits. The message names the fix, not the file.
        OSError: If the file cannot be read.
    """
    with path.open("rb", buffering=0) as file:
        head = file.read(_HEAD)
        format = format_of_content(head)
        if format is None:
            raise ImageError(f"does not decode: it is {kind_of_unknown(head)}")
        file.seek(0)
        if format is FORMATS["bmp"]:
            return _read_bmp(file.readall())
        try:
            return _read(file, format)
        except libvips().Error as error:
            raise ImageError(
                f"does not decode: {reason(error)}; copy it again, or save it as PNG"
            ) from error


def _read_bmp(data: bytes) -> Picture:
    """BMP has no metadata but its resolution, and libvips does not read it."""
    samples = decode_image(data)
    across, down = (int.from_bytes(data[at : at + 4], "little") / 1000 for at in (38, 42))
    large_header = int.from_bytes(data[14:18], "little") >= 40
    resolution = (across, down) if large_header and across and down else None
    return Picture(samples, None, Metadata(resolution=resolution), FORMATS["bmp"], ())


def _read(file: BinaryIO, format: PictureFormat) -> Picture:
    """Reads what libvips reads.

    Raises:
        ImageError: See `read_picture`.
        pyvips.Error: If libvips finds the file damaged.
    """
    notes = []
    exif = None
    # All that is read here is read before libvips, which moves the file's position.
    if format is FORMATS["tif"]:
        exif = _exif_of_tiff(file)
    elif format is FORMATS["png"] and _is_animated(file):
        raise ImageError("is an animation (APNG); save one frame of it")
    elif format is FORMATS["jpg"]:
        file.seek(0)
        if _MORE_PICTURES.search(file.read(_BEFORE_PIXELS)):
            notes.append("holds more pictures (MPO, or an HDR gain map): the first is used")
    file.seek(0)
    image = opened(file, format)
    _check(image)
    metadata, dropped = _metadata(image, exif, format)
    image = image.autorot()
    if image.interpretation == "cmyk":
        notes.append("is CMYK: converted to sRGB")
        image = image.icc_transform(
            "srgb",
            embedded=True,
            input_profile="cmyk",
            depth=8 * _DEPTHS[image.format].itemsize,
        )
        metadata = metadata._replace(profile=block(image, "icc-profile-data"))
    samples, alpha = _decoded(image)
    if metadata.profile and not fitting_profile(metadata.profile, samples.shape[2]):
        dropped.append("its colour profile is for other colours: left out")
        metadata = metadata._replace(profile=None)
    return Picture(samples, alpha, metadata, format, (*notes, *dropped))


def _exif_of_tiff(file: BinaryIO) -> bytes | None:
    """Refuses TIFF files that libvips would read wrongly or call damaged.

    Returns:
        The file's EXIF; what is not EXIF if it is damaged.

    Raises:
        ImageError: Naming the kind, and the fix.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's do not name the file
            tags = read_tags(file)
    except Exception as error:  # Pillow raises several types for a damaged file
        raise ImageError("does not decode: its header is wrong; copy it again") from error
    check_kind(tags)
    if tags.get(_PHOTOMETRIC) in _CIELAB:
        raise ImageError("is CIELAB; convert it to RGB")
    file.seek(0)
    try:
        return exif_of_tiff(file)
    except ValueError:
        return b""


def _is_animated(file: BinaryIO) -> bool:
    """Whether a PNG says that it is an animation, which it does before its pixels."""
    file.seek(8)
    while len(head := file.read(8)) == 8 and head[4:] not in (b"IDAT", b"IEND"):
        if head[4:] == b"acTL":
            return True
        file.seek(int.from_bytes(head[:4], "big") + 4, 1)
    return False


def _check(image: Any) -> None:
    """Refuses what is not one picture of 8- or 16-bit grey, RGB or CMYK, or is too large.

    Raises:
        ImageError: Naming the kind, and the fix.
    """
    if image.width * image.height > MAX_PIXELS:
        raise ImageError(
            f"is too large: {image.width}x{image.height} are more than {MAX_PIXELS:,} pixels; "
            "cut it into parts"
        )
    pages = image.get("n-pages") if image.get_typeof("n-pages") else 1
    if pages > 1:
        raise ImageError(f"holds {pages} pages or frames; save one of them")
    if image.format not in _DEPTHS:
        raise ImageError(f"has samples of type {image.format}; save it with 16 bits")
    colours = {**dict.fromkeys(_GREY, 1), **dict.fromkeys(_RGB, 3), "cmyk": 4}
    expected = colours.get(image.interpretation)
    if expected is None:
        raise ImageError(f"has colours of kind {image.interpretation}; convert it to RGB")
    if image.bands not in (expected, expected + 1):
        raise ImageError(f"has {image.bands} channels; save it as RGB, with or without alpha")


def _metadata(image: Any, exif: bytes | None, format: PictureFormat) -> tuple[Metadata, list[str]]:
    """The metadata of a file, true of the upright picture, and notes of what was left out."""
    notes = []
    if exif is None:
        exif = block(image, "exif-data")
    if exif is not None:
        exif = upright_exif(exif)
        if exif is None:
            notes.append("its EXIF is damaged: left out")
    xmp = block(image, "xmp-data")
    # libvips cuts the IPTC of TIFF files short.
    iptc = block(image, "iptc-data") if format is FORMATS["jpg"] else None
    unknown = (image.xres, image.yres) == (1.0, 1.0)  # what libvips says then
    return (
        Metadata(
            profile=block(image, "icc-profile-data"),
            exif=exif,
            xmp=None if xmp is None else upright_xmp(xmp),
            iptc=iptc,
            resolution=None if unknown else (image.xres, image.yres),
        ),
        notes,
    )


def _decoded(image: Any) -> tuple[Samples, Samples | None]:
    """Decodes the pixels, a few rows at a time: colours and alpha never lie side by side whole."""
    dtype = _DEPTHS[image.format]
    height, width, bands = image.height, image.width, image.bands
    region = libvips().Region.new(image)
    samples = np.empty((height, width, 1 if bands <= 2 else 3), dtype)
    alpha = np.empty((height, width), dtype) if bands in (2, 4) else None
    for top in range(0, height, _ROWS):
        rows = min(_ROWS, height - top)
        decoded = np.frombuffer(region.fetch(0, top, width, rows), dtype)
        decoded = decoded.reshape(rows, width, bands)
        samples[top : top + rows] = decoded[:, :, : samples.shape[2]]
        if alpha is not None:
            alpha[top : top + rows] = decoded[:, :, -1]
    return samples, alpha
