"""A grid of dots or lines in SR, as sub-pixel stages can leave: how much of it there is."""

from typing import Any

import numpy as np
import numpy.typing as npt

_SIDE = 64  # of the windows, in pixels: a multiple of the grid's periods
_PERIOD = 4  # of the longest one: two sub-pixel stages of factor 2, or one of x4
_NEAR = range(3, 6)  # how far the neighbours of a frequency are: outside of the window's main lobe


def grid(sr: npt.NDArray[Any], hr: npt.NDArray[Any]) -> float | None:
    """The energy of SR at the periods of 4 and 2 pixels, over that of their neighbours.

    It is divided by the same of HR, which may have a grid of its own (JPEG's). Smooth upscaling has
    less energy there than nearby, which is no fault: both ratios are at least 1. So 1.0 is healthy.

    Args:
        sr: Luma [H, W].
        hr: Likewise.

    Returns:
        At least 0; None for images that are smaller than a window.
    """
    if min(hr.shape) < _SIDE:
        return None
    found, usual = (max(1.0, _excess(_spectrum(luma))) for luma in (sr, hr))
    return found / usual


def _spectrum(luma: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """The power spectrum [64, 64], a mean over windows that overlap by half."""
    side, step = _SIDE, _SIDE // 2
    hann = np.hanning(side + 1)[:side]
    windows = np.lib.stride_tricks.sliding_window_view(luma, (side, side))[::step, ::step]
    total = np.zeros((side, side))
    for row in windows:
        part = (row - row.mean(axis=(1, 2), keepdims=True)) * hann[:, None] * hann
        total += (np.abs(np.fft.fft2(part)) ** 2).sum(axis=0)
    mean: npt.NDArray[np.float64] = total / (windows.shape[0] * windows.shape[1])
    return mean


def _excess(power: npt.NDArray[np.float64]) -> float:
    """The geometric mean, over the grid's frequencies, of their power over their neighbours'.

    Neighbours on an axis lie on it: edges of pictures are most often level or upright.
    """
    step = _SIDE // _PERIOD
    places = [(v, u) for v in range(0, _SIDE, step) for u in range(0, _SIDE, step) if v or u]
    reach = range(-_NEAR[-1], _NEAR[-1] + 1)
    logs = []
    for v, u in places:
        near = [
            power[(v + dv) % _SIDE, (u + du) % _SIDE]
            for dv in (reach if v else [0])
            for du in (reach if u else [0])
            if max(abs(dv), abs(du)) in _NEAR
        ]
        tiny = np.finfo(float).tiny
        logs.append(np.log(power[v, u] + tiny) - np.log(np.array(near) + tiny).mean())
    return float(np.exp(np.mean(logs)))
