"""A function of large images, by windows that overlap: memory is bounded. Pure."""

import math
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


class Window(NamedTuple):
    """A part of an axis, in pixels.

    Attributes:
        start: Its first pixel.
        end: The pixel after its last.
        kept: Start and end of what it gives to the result; the kept parts fill the axis.
    """

    start: int
    end: int
    kept: tuple[int, int]


def windows(length: int, halo: int, side: int) -> Iterator[Window]:
    """The windows of an axis.

    There are as few as possible, all of one size. They overlap by at least two halos, so what a
    window keeps is at least a halo away from where it cuts the image.

    Args:
        length: Of the axis.
        halo: How far a pixel of the result looks.
        side: The longest window; at least four halos are used.
    """
    most = max(side, 4 * halo)
    if length <= most:
        yield Window(0, length, (0, length))
        return
    count = math.ceil((length - 2 * halo) / (most - 2 * halo))
    size = math.ceil((length + 2 * halo * (count - 1)) / count)
    starts = [number * (length - size) // (count - 1) for number in range(count)]
    cuts = [(start + size + after) // 2 for start, after in pairwise(starts)]
    for start, kept in zip(starts, pairwise([0, *cuts, length]), strict=True):
        yield Window(start, start + size, kept)


def bands_in_tiles(
    function: Callable[[Any], Array],
    image: Array,
    *,
    halo: int,
    side: int,
    rows: int,
) -> Iterator[Array]:
    """Applies a function to overlapping windows of an image; gives bands of the result.

    Args:
        function: Maps [h, w, C] to [h * scale, w * scale, D]. A pixel of the result depends only
            on pixels of the window that are at most `halo` away.
        image: [H, W, C].
        halo: In pixels of the image.
        side: Longest side of a window, in pixels; at least four halos are used.
        rows: Most rows of a window; likewise.

    Yields:
        [h, W * scale, D], from the top down. Joined, they equal `function(image)`. A band has the
        rows that one row of windows keeps.
    """
    height, width = image.shape[:2]
    for top, bottom, kept_rows in windows(height, halo, rows):
        band: Array | None = None
        for left, right, kept in windows(width, halo, side):
            tile = function(image[top:bottom, left:right])
            scale = tile.shape[0] // (bottom - top)
            first, last = (scale * (row - top) for row in kept_rows)
            start, end = (scale * column for column in kept)
            if band is None:
                band = np.empty((last - first, scale * width, *tile.shape[2:]), tile.dtype)
            shift = scale * left
            band[:, start:end] = tile[first:last, start - shift : end - shift]
        assert band is not None  # an image has pixels
        yield band


def joined(bands: Iterable[Array], width: int, height: int) -> Array:
    """One array of the bands of an image that had `width` and `height` before it was enlarged."""
    whole: Array | None = None
    filled = 0
    for band in bands:
        if whole is None:
            total = height * band.shape[1] // width
            if len(band) == total:
                return band
            whole = np.empty((total, *band.shape[1:]), band.dtype)
        whole[filled : filled + len(band)] = band
        filled += len(band)
    assert whole is not None  # an image has pixels
    return whole


def in_tiles(function: Callable[[Any], Array], image: Array, *, halo: int, side: int) -> Array:
    """As `bands_in_tiles`, joined: [H * scale, W * scale, D]."""
    height, width = image.shape[:2]
    return joined(bands_in_tiles(function, image, halo=halo, side=side, rows=side), width, height)
