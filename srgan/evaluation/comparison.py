"""The pictures that compare methods: crops of one image by every method, side by side. Pure."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from data_pipeline.images import Image, as_rgb
from data_pipeline.imresize import Kernel, enlarge_nearest
from srgan.evaluation.benchmark import Pair, baselines
from srgan.evaluation.psnr_ssim import psnr
from srgan.evaluation.table import HR, TITLES

_CROP = 128
_ZOOM = 2
_LABEL_HEIGHT = 28
_GAP = 6
_CENTRE_LR_SIDE = 40


class Panel(NamedTuple):
    """One method's crop, uint8 [h, w, 3], and the label to show with it."""

    label: str
    image: Image


def detail_panels(pair: Pair, kernel: Kernel, generated: Mapping[str, Image]) -> list[Panel]:
    """The crop with the most detail by every method: nearest, bicubic, generators, HR.

    Args:
        pair: The image.
        kernel: The kernel of the bicubic baseline.
        generated: SR images of HR's shape by their generator's title, in the order of the panels.

    Returns:
        Crops of one size, at most 128x128. A label is the title and the PSNR of the crop; a crop
        that equals HR's has no PSNR.
    """
    top, left = most_detailed_crop(pair.hr, _CROP)
    inside = (slice(top, top + _CROP), slice(left, left + _CROP))
    images = {TITLES[method]: image for method, image in baselines(pair, kernel).items()}
    panels = []
    for title, image in (images | dict(generated) | {TITLES[HR]: pair.hr}).items():
        ratio = psnr(pair.hr[inside], image[inside])
        label = title if np.isinf(ratio) else f"{title}  {ratio:.2f} dB"
        panels.append(Panel(label, as_rgb(image[inside])))
    return panels


def labelled_row(panels: Sequence[Panel]) -> Image:
    """Enlarges the panels' crops and puts them side by side, each below its label."""
    parts = []
    for panel in panels:
        zoomed = enlarge_nearest(panel.image, _ZOOM)
        bar = np.full((_LABEL_HEIGHT, zoomed.shape[1], 3), 255, np.uint8)
        cv2.putText(
            bar, panel.label, (4, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA
        )
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
