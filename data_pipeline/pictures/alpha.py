"""Transparency: a path of its own beside the network, which knows colours only."""

from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from data_pipeline.imresize import imresize

Sample = TypeVar("Sample", np.uint8, np.uint16)

# Pixels that a visible colour reaches, nearest first. A network looks no farther for most it does.
_RADII = (2, 8, 32)
_ROWS = 256  # filled at once
# LR rows that a row of the enlarged alpha depends on, above and below.
_HALO = 3


def fill_transparent(
    samples: npt.NDArray[Sample], alpha: npt.NDArray[Sample]
) -> npt.NDArray[Sample]:
    """Gives pixels that cannot be seen the colours around them.

    Editors leave them black. A network would spread that black into what can be seen.

    A pixel with alpha 0 gets the mean of the colours within 2 pixels, weighted by their alpha; if
    none of them can be seen, within 8, then 32 pixels; else the mean of the whole picture.

    Args:
        samples: [H, W, C].
        alpha: [H, W]; 0 cannot be seen.

    Returns:
        [H, W, C]; `samples` itself if there is nothing to fill, or nothing to see.
    """
    if alpha.all() or not alpha.any():
        return samples
    filled: npt.NDArray[Sample] = samples.copy()
    mean = _mean_colour(samples, alpha)
    height = len(samples)
    for top in range(0, height, _ROWS):
        rows = slice(top, min(top + _ROWS, height))
        hidden = alpha[rows] == 0
        if not hidden.any():
            continue
        reach = max(_RADII)
        near = slice(max(0, top - reach), min(height, rows.stop + reach))
        inside = slice(top - near.start, rows.stop - near.start)
        weights = alpha[near].astype(np.float32)
        colours = samples[near].astype(np.float32) * weights[:, :, None]
        band = filled[rows]
        for radius in _RADII:
            weight = _box(weights, radius)[inside]
            reached = hidden & (weight > 0)
            total = _box(colours, radius)[inside].reshape(*hidden.shape, -1)
            band[reached] = np.rint(total[reached] / weight[reached][:, None])
            hidden &= ~reached
        band[hidden] = mean
    return filled


def _mean_colour(
    samples: npt.NDArray[Sample], alpha: npt.NDArray[Sample]
) -> npt.NDArray[np.float64]:
    """[C], weighted by alpha, rounded."""
    total = np.zeros(samples.shape[2])
    for top in range(0, len(samples), _ROWS):
        rows = slice(top, top + _ROWS)
        total += np.einsum("hw,hwc->c", alpha[rows].astype(np.float64), samples[rows])
    return np.asarray(np.rint(total / alpha.sum(dtype=np.float64)))


def _box(values: npt.NDArray[np.float32], radius: int) -> npt.NDArray[np.float32]:
    """Sums over squares of 2 * radius + 1 pixels; beyond the edges is nothing."""
    side = 2 * radius + 1
    sums = cv2.boxFilter(values, -1, (side, side), normalize=False, borderType=cv2.BORDER_CONSTANT)
    return np.asarray(sums, np.float32)


def enlarge_alpha(
    alpha: npt.NDArray[Sample], scale: int, rows: slice = slice(None)
) -> npt.NDArray[Sample]:
    """Enlarges transparency by MATLAB's bicubic kernel, whole or in bands.

    Args:
        alpha: [H, W].
        scale: Factor for both axes.
        rows: Which rows of `alpha` are wanted, without a step; all if left out.

    Returns:
        [rows * scale, W * scale]: the very values of the whole, enlarged at once.
    """
    first, last, _ = rows.indices(len(alpha))
    top = max(0, first - _HALO)
    enlarged = imresize(alpha[top : last + _HALO], scale)
    return enlarged[(first - top) * scale : (last - top) * scale]
