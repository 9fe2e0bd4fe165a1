"""The picture: nearest | bicubic | SRGAN | HR crops, labelled with their PSNR."""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from data_pipeline.images import Image, as_rgb
from data_pipeline.imresize import enlarge_nearest
from srgan.evaluation.psnr_ssim import psnr

_CROP = 128
_ZOOM = 2
_LABEL_HEIGHT = 28
_GAP = 6


class Panel(NamedTuple):
    """One method's image of the row, uint8 [H, W, 1 or 3]."""

    label: str
    image: Image


def comparison_row(panels: Sequence[Panel], hr: Image) -> Image:
    """One row of the picture: the crop of `hr` with the most detail, by every method, then HR.

    Args:
        panels: Methods, left to right, each of HR's shape.
        hr: uint8 [H, W, 1 or 3].

    Returns:
        uint8 [h, w, 3], with labels above the crops: the method and its PSNR on the crop.
    """
    top, left = most_detailed_crop(hr, _CROP)
    inside = (slice(top, top + _CROP), slice(left, left + _CROP))
    target = hr[inside]
    tiles = []
    for panel in (*panels, Panel("HR", hr)):
        crop = panel.image[inside]
        tiles.append(_labelled(as_rgb(crop), psnr_label(panel.label, target, crop)))
    gap = np.full((tiles[0].shape[0], _GAP, 3), 255, np.uint8)
    parts = [part for tile in tiles for part in (tile, gap)]
    return np.concatenate(parts[:-1], axis=1)


def psnr_label(method: str, hr: Image, image: Image) -> str:
    """A method's name with its PSNR, which what equals HR does without."""
    ratio = psnr(hr, image)
    return method if np.isinf(ratio) else f"{method}  {ratio:.2f} dB"


def comparison_picture(rows: Sequence[Image]) -> Image:
    """Stacks rows, widths padded with white."""
    width = max(row.shape[1] for row in rows)
    return np.concatenate(
        [
            np.pad(row, ((0, _GAP), (0, width - row.shape[1]), (0, 0)), constant_values=255)
            for row in rows
        ]
    )


def most_detailed_crop(image: Image, side: int) -> tuple[int, int]:
    """Upper left corner of the crop whose Laplacian has the largest mean square.

    The crops tried lie on a grid of half a crop; an image smaller than `side` gives (0, 0).
    """
    grey = as_rgb(image).mean(axis=2)
    detail = cv2.Laplacian(grey, cv2.CV_64F) ** 2
    corners = [
        (top, left)
        for top in range(0, max(1, image.shape[0] - side + 1), side // 2)
        for left in range(0, max(1, image.shape[1] - side + 1), side // 2)
    ]
    return max(
        corners, key=lambda at: float(detail[at[0] : at[0] + side, at[1] : at[1] + side].mean())
    )


def _labelled(crop: Image, label: str) -> Image:
    zoomed = enlarge_nearest(crop, _ZOOM)
    bar = np.full((_LABEL_HEIGHT, zoomed.shape[1], 3), 255, np.uint8)
    cv2.putText(bar, label, (4, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
    return np.concatenate([bar, zoomed])
