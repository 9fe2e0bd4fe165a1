"""Writes BMP files, which libvips does not. 24-bit RGB, or 8-bit grey with a palette of greys."""

import struct
from collections.abc import Iterable
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

_HEADERS = 14 + 40  # BITMAPFILEHEADER, BITMAPINFOHEADER
_GREYS = np.repeat(np.arange(256, dtype=np.uint8), 4).reshape(256, 4) * np.array(
    [1, 1, 1, 0], np.uint8
)


def write_bmp(
    file: BinaryIO,
    bands: Iterable[npt.NDArray[np.uint8]],
    *,
    height: int,
    width: int,
    channels: int,
    resolution: tuple[float, float],
) -> None:
    """Writes bands of rows. BMP holds the last row first, so each band goes to a place of its own.

    Args:
        file: Empty, can seek.
        bands: uint8 [rows, width, channels], from the top; RGB or grey.
        height: Rows of all bands.
        width: Pixels of a row.
        channels: 1 or 3.
        resolution: Pixels per millimetre: horizontal, vertical.

    Raises:
        OSError: If the disk is full.
    """
    palette = _GREYS.tobytes() if channels == 1 else b""
    row_bytes = -(-width * channels // 4) * 4
    start = _HEADERS + len(palette)
    pixels = row_bytes * height
    across, down = (min(round(1000 * one), 2**31 - 1) for one in resolution)
    file.write(struct.pack("<2sIHHI", b"BM", start + pixels, 0, 0, start))
    file.write(
        struct.pack(
            "<IiiHHIIiiII", 40, width, height, 1, 8 * channels, 0, pixels, across, down, 0, 0
        )
    )
    file.write(palette)
    bottom = height
    for band in bands:
        rows = np.zeros((len(band), row_bytes), np.uint8)
        rows[:, : width * channels] = band[::-1, :, ::-1].reshape(len(band), -1)  # BGR
        bottom -= len(band)
        file.seek(start + bottom * row_bytes)
        file.write(rows.data)
