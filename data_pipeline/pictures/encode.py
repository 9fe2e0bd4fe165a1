"""One whole file from an uncompressed PNG that is read once: what libvips does, and BMP."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL.BmpImagePlugin import BmpImageFile

from data_pipeline.pictures.bmp import write_bmp
from data_pipeline.pictures.formats import FORMATS, PictureFormat
from data_pipeline.pictures.metadata import Metadata, fitting_profile
from data_pipeline.pictures.tiff_exif import append_exif, exif_of_tiff
from data_pipeline.pictures.vips import block, libvips, opened

_NO_RESOLUTION = (72 / 25.4, 72 / 25.4)  # px/mm, what files say that mean nothing by it
_CLASSIC_TIFF_BYTES = 3_500_000_000  # of pixels; positions in a classic TIFF end at 4 GiB
_ROWS = 64  # that go into a BMP at once
_BLOCKS = {
    "icc-profile-data": "colour profile",
    "exif-data": "EXIF",
    "xmp-data": "XMP",
    "iptc-data": "IPTC",
}


class Wanted(NamedTuple):
    """The file that is to be.

    Attributes:
        path: Where.
        height: Rows.
        width: Pixels of a row.
        channels: 1 to 4, with alpha.
        bits: 8 or 16.
        metadata: Of the upright picture.
        format: One of FORMATS.
        quality: 1 to 100; None if the format has none.
    """

    path: Path
    height: int
    width: int
    channels: int
    bits: int
    metadata: Metadata
    format: PictureFormat
    quality: int | None

    def blocks(self) -> dict[str, bytes]:
        """The blocks of metadata by libvips's names."""
        found = zip(_BLOCKS, self.metadata[:4], strict=True)
        return {name: value for name, value in found if value is not None}


def encode(png: Iterator[bytes], wanted: Wanted) -> None:
    """Writes a file from the bytes of an uncompressed PNG, resized if that has another size.

    Args:
        png: Is read while the file is written.
        wanted: The file.

    Raises:
        pyvips.Error: If the PNG ends early, or libvips cannot write.
        OSError: If Python cannot write.
    """
    stream = _Stream(png)
    try:
        image = _described(stream.image(), wanted)
        if (image.height, image.width) != (wanted.height, wanted.width):
            across, down = wanted.width / image.width, wanted.height / image.height
            image = image.resize(across, vscale=down, kernel="cubic", gap=0)
        _save(image, wanted)
    except libvips().Error as error:
        raise stream.error or error from error
    if wanted.format is FORMATS["tif"] and wanted.metadata.exif:
        append_exif(wanted.path, wanted.metadata.exif, height=wanted.height, width=wanted.width)


class _Stream:
    """Bytes as libvips pulls them. It calls from its own threads, where an exception is lost."""

    def __init__(self, parts: Iterator[bytes]) -> None:
        self._parts = parts
        self._rest = memoryview(b"")
        self.error: Exception | None = None
        # It must live as long as its images: libvips's object does not keep what it calls.
        self._source = libvips().SourceCustom()
        self._source.on_read(self._read)

    def image(self) -> Any:
        return libvips().Image.pngload_source(self._source, access="sequential", fail_on="error")

    def _read(self, size: int) -> bytes:
        """At most `size` bytes; none at the end or after an error."""
        try:
            while not self._rest:
                self._rest = memoryview(next(self._parts))
        except StopIteration:
            return b""
        except Exception as error:
            self.error = error
            return b""
        part = bytes(self._rest[:size])
        self._rest = self._rest[size:]
        return part


def _described(image: Any, wanted: Wanted) -> Any:
    """The image with its metadata."""
    across, down = wanted.metadata.resolution or _NO_RESOLUTION
    image = image.copy(xres=across, yres=down)
    for name, value in wanted.blocks().items():
        image.set_type(libvips().GValue.blob_type, name, value)
    profile = wanted.metadata.profile
    if wanted.format is FORMATS["webp"] and profile and not fitting_profile(profile, 3):
        image = image.icc_transform("srgb", embedded=True)  # WebP has RGB only
    return image


def _save(image: Any, wanted: Wanted) -> None:
    """Encodes an image."""
    with wanted.path.open("w+b") as file:
        if wanted.format is FORMATS["bmp"]:
            resolution = (image.xres, image.yres)
            size = {name: getattr(wanted, name) for name in ("height", "width", "channels")}
            write_bmp(file, _rows(image), **size, resolution=resolution)
            return
        target = libvips().Target.new_to_descriptor(file.fileno())
        if wanted.format is FORMATS["png"]:
            image.pngsave_target(target, compression=3, filter="all")
        elif wanted.format is FORMATS["jpg"]:
            image.jpegsave_target(target, Q=wanted.quality, subsample_mode="off")
        elif wanted.format is FORMATS["webp"]:
            image.webpsave_target(target, Q=wanted.quality, smart_subsample=True, exact=True)
        else:
            pixels = wanted.height * wanted.width * wanted.channels * wanted.bits // 8
            image.tiffsave_target(
                target,
                compression="deflate",
                level=3,
                predictor="horizontal",
                bigtiff=pixels > _CLASSIC_TIFF_BYTES,
            )


def _rows(image: Any) -> Iterator[npt.NDArray[np.uint8]]:
    """An 8-bit image, some rows at a time."""
    region = libvips().Region.new(image)
    for top in range(0, image.height, _ROWS):
        rows = min(_ROWS, image.height - top)
        fetched = np.frombuffer(region.fetch(0, top, image.width, rows), np.uint8)
        yield fetched.reshape(rows, image.width, image.bands)


def check(wanted: Wanted) -> tuple[str, ...]:
    """Opens a written file and compares size, channels and bits with what was wanted.

    Returns:
        What of the metadata the file does not hold, a sentence each.

    Raises:
        OSError: If the file is another.
    """
    with wanted.path.open("rb") as file:
        lost = dict(wanted.blocks())
        if wanted.format is FORMATS["bmp"]:
            header = BmpImageFile(file)
            found = (*header.size, len(header.getbands()), 8)
        else:
            image = opened(file, wanted.format)
            bits = {"uchar": 8, "ushort": 16}[image.format]
            found = (image.width, image.height, image.bands, bits)
            lost = {name: value for name, value in lost.items() if block(image, name) is None}
    expected = {(wanted.width, wanted.height, wanted.channels, wanted.bits)}
    if wanted.format is FORMATS["webp"]:  # has no grey, and no alpha where all is opaque
        expected = {(wanted.width, wanted.height, 3, 8)}
        if wanted.channels in (2, 4):
            expected.add((wanted.width, wanted.height, 4, 8))
    if found not in expected:
        raise OSError(f"{wanted.path}: was written as {found}, not as one of {expected}")
    if wanted.format is FORMATS["tif"] and "exif-data" in lost:
        with wanted.path.open("rb") as file:
            if exif_of_tiff(file):
                del lost["exif-data"]
    return tuple(f"{wanted.format.name} does not hold its {_BLOCKS[name]}" for name in lost)
