"""The pictures that compare methods: crops of one image by every method, side by side. Pure."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from data_pipeline.images import Image, as_rgb
from data_pipeline.imresize import Kernel, enlarge_nearest
from srgan.evaluation.benchmark import Pair, baselines
from srgan.evaluation.psnr_ssim import luma, psnr
from srgan.evaluation.table import HR, TITLES

_CROP = 128
_ZOOM = 2
_LABEL_HEIGHT = 28
_GAP = 6
_FONT_SCALE = 0.5
_CENTRE_LR_SIDE = 40
_PLACE_SIDE = 320


class Panel(NamedTuple):
    """One method's crop.

    Attributes:
        title: The method's name for people.
        image: uint8 [h, w, 3].
        crop_psnr: PSNR (Y) of the crop in dB; None if there is none.
        image_psnr: The same of the whole image, without a border.
    """

    title: str
    image: Image
    crop_psnr: float | None = None
    image_psnr: float | None = None


class Place(NamedTuple):
    """Where a crop lies in its image.

    Attributes:
        image: The whole image, uint8 [h, w, 3], small.
        left: Of the crop, as a part of the image's width; likewise the others.
        top: As a part of the height.
        width: As a part of the width.
        height: As a part of the height.
    """

    image: Image
    left: float
    top: float
    width: float
    height: float


def detail_panels(pair: Pair, kernel: Kernel, generated: Mapping[str, Image]) -> list[Panel]:
    """The crop with the most detail by every method: nearest, bicubic, generators, HR.

    Args:
        pair: The image.
        kernel: The kernel of the bicubic baseline.
        generated: SR images of HR's shape by their generator's title, in the order of the panels.

    Returns:
        Crops of one size, at most 128x128. A crop that equals HR's has no PSNR.
    """
    inside = _detailed_part(pair.hr)
    images = {TITLES[method]: image for method, image in baselines(pair, kernel).items()}
    hr = luma(pair.hr[inside].astype(np.float64))
    panels = []
    for title, image in (images | dict(generated) | {TITLES[HR]: pair.hr}).items():
        ratio = psnr(hr, luma(image[inside].astype(np.float64)))
        panels.append(Panel(title, as_rgb(image[inside]), ratio if math.isfinite(ratio) else None))
    return panels


def detail_place(hr: Image) -> Place | None:
    """Where the crop of `detail_panels` lies; None if it is the whole image."""
    height, width = hr.shape[:2]
    rows, columns = _detailed_part(hr)
    if max(height, width) <= _CROP:
        return None
    factor = min(1.0, _PLACE_SIDE / max(height, width))
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return Place(
        np.asarray(cv2.resize(as_rgb(hr), size, interpolation=cv2.INTER_AREA), np.uint8),
        columns.start / width,
        rows.start / height,
        min(_CROP, width) / width,
        min(_CROP, height) / height,
    )


def _detailed_part(hr: Image) -> tuple[slice, slice]:
    top, left = most_detailed_crop(hr, _CROP)
    return slice(top, top + _CROP), slice(left, left + _CROP)


def labelled_row(panels: Sequence[Panel]) -> Image:
    """Enlarges the panels' crops and puts them side by side, each below its title and PSNR."""
    parts = []
    for panel in panels:
        value = "" if panel.crop_psnr is None else f"  crop {panel.crop_psnr:.2f} dB Y"
        zoomed = enlarge_nearest(panel.image, _ZOOM)
        bar = np.full((_LABEL_HEIGHT, zoomed.shape[1], 3), 255, np.uint8)
        label, face = panel.title + value, cv2.FONT_HERSHEY_SIMPLEX
        (width, _), _ = cv2.getTextSize(label, face, _FONT_SCALE, 1)
        scale = _FONT_SCALE * min(1.0, (bar.shape[1] - 8) / width)  # small crops have narrow bars
        cv2.putText(bar, label, (4, 20), face, scale, (0, 0, 0), 1, cv2.LINE_AA)
        gap = np.full((_LABEL_HEIGHT + zoomed.shape[0], _GAP, 3), 255, np.uint8)
        parts += [np.concatenate([bar, zoomed]), gap]
    return np.concatenate(parts[:-1], axis=1)


def stack_rows(rows: Sequence[Image]) -> Image:
    """Puts rows below each other, a white gap below each and white at the right of short ones."""
    width = max(row.shape[1] for row in rows)
    return np.concatenate(
        [
            np.pad(row, ((0, _GAP), (0, width - row.shape[1]), (0, 0)), constant_values=255)
            for row in rows
        ]
    )


def centre_row(pair: Pair, sr: Image) -> Image:
    """The centre by nearest | SR | HR, without labels.

    Args:
        pair: The image.
        sr: uint8, of HR's shape.

    Returns:
        uint8 [side, 3 * side, 3], where side is 40 LR pixels at HR's size; small images leave
        black at the right and below.
    """
    side = _CENTRE_LR_SIDE * pair.scale
    height, width = (min(side, length) for length in sr.shape[:2])
    top, left = (sr.shape[0] - height) // 2, (sr.shape[1] - width) // 2
    row = np.zeros((side, 3 * side, 3), np.uint8)
    for number, image in enumerate((enlarge_nearest(pair.lr, pair.scale), sr, pair.hr)):
        crop = as_rgb(image[top : top + height, left : left + width])
        row[:height, number * width : (number + 1) * width] = crop
    return row


def most_detailed_crop(image: Image, side: int) -> tuple[int, int]:
    """Upper left corner of the crop whose Laplacian has the largest mean square.

    The crops to choose from lie on a grid of half a crop. An image smaller than `side` gives
    (0, 0).
    """
    squares = detail(image)
    corners = [
        (top, left)
        for top in range(0, max(1, image.shape[0] - side + 1), side // 2)
        for left in range(0, max(1, image.shape[1] - side + 1), side // 2)
    ]
    return max(
        corners, key=lambda at: float(squares[at[0] : at[0] + side, at[1] : at[1] + side].mean())
    )


def detail(image: Image) -> npt.NDArray[np.float64]:
    """The square of the grey image's Laplacian, float64 [H, W]; 0 where the image is flat."""
    return np.asarray(cv2.Laplacian(as_rgb(image).mean(axis=2), cv2.CV_64F)) ** 2
