"""A grid of dots or lines in SR, as sub-pixel stages can leave: how much of it there is. Pure."""

from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from data_pipeline.images import Image
from srgan.evaluation.psnr_ssim import Floats, luma

_SIDE = 64  # of the windows, in pixels
_NEAR = range(3, 6)  # how far a frequency's neighbours are: outside of the window's main lobe
_ROUNDING = 1 / 12  # the variance that rounding to whole levels leaves in any image


class _Energies(NamedTuple):
    """Energies at the grid's frequencies: what is usual there, and what is above that."""

    usual: Floats
    extra: Floats


def grid(hr: Image, sr: Image, *, scale: int) -> float | None:
    """The energy of SR at the periods of a grid against HR's; 1.0 where SR has no grid.

    A grid that repeats after `scale` pixels, or after a part of them as earlier sub-pixel stages
    make (x4: 4 and 2 px), is in frequencies that are multiples of 1 / scale. The energy that is
    usual there is that of the neighbouring frequencies. A grid is what SR has above it, where HR
    has less: HR's own grid (JPEG's) is no fault, and neither is blur. The value is
    1 + (energy of SR's grid) / (energy of HR at these frequencies). On photographs at x4, a grid
    with a standard deviation of half a level gives about 1.2, of one level 2, of two levels 5;
    bicubic has 1.0.

    Args:
        hr: uint8 [H, W, 1 or 3].
        sr: uint8, of the same shape.
        scale: The longest period in pixels.

    Returns:
        At least 1; exactly 1 for equal images. None for images that are smaller than 64 px.
    """
    side = _SIDE // scale * scale
    if min(hr.shape[:2]) < _SIDE:
        return None
    one, other = (_energies(_spectrum(image, side), scale) for image in (hr, sr))
    least = _ROUNDING * (_window(side) ** 2).sum()
    grown = np.maximum(0, other.extra - one.extra).sum()
    return float(1 + grown / np.maximum(one.usual + one.extra, least).sum())


def _spectrum(image: Image, side: int) -> Floats:
    """Luma's power spectrum [side, side], a mean over windows that overlap by half."""
    tops = range(0, len(image) - side + 1, side // 2)
    half = np.zeros((side, side // 2 + 1))
    for top in tops:  # one row of windows at a time, so that the memory does not grow
        rows = luma(image[top : top + side].astype(np.float64))[..., 0]
        windows = sliding_window_view(rows, side, axis=1)[:, :: side // 2].transpose(1, 0, 2)
        part = (windows - windows.mean(axis=(1, 2), keepdims=True)) * _window(side)
        half += (np.abs(np.fft.rfft2(part)) ** 2).sum(axis=0) / (len(windows) * len(tops))
    # The other half is the same: the spectrum of real values is symmetric about 0.
    mirrored = np.roll(half[::-1, (side - 1) // 2 : 0 : -1], 1, axis=0)
    return np.concatenate([half, mirrored], axis=1)


def _window(side: int) -> Floats:
    """Hann's, [side, side]."""
    hann = np.hanning(side + 1)[:side]
    return np.outer(hann, hann)


def _energies(power: Floats, scale: int) -> _Energies:
    """Energies at the grid's frequencies, which are all places but the mean's.

    Neighbours of a place on an axis lie on that axis: most edges of pictures are level or upright.
    Their mean is geometric, since the spectrum of a picture falls by a power of the frequency.
    """
    side = len(power)
    steps = range(0, side, side // scale)
    reach = range(-_NEAR[-1], _NEAR[-1] + 1)
    usual, found = [], []
    for v, u in ((v, u) for v in steps for u in steps if v or u):
        near = [
            power[(v + dv) % side, (u + du) % side]
            for dv in (reach if v else [0])
            for du in (reach if u else [0])
            if max(abs(dv), abs(du)) in _NEAR
        ]
        usual.append(np.exp(np.log(np.maximum(near, np.finfo(float).tiny)).mean()))
        found.append(power[v, u])
    return _Energies(np.array(usual), np.maximum(0, np.subtract(found, usual)))
