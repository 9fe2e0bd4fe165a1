"""PSNR and SSIM by the protocol of super-resolution papers. Pure functions."""

import math
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from data_pipeline.images import Image

Floats = npt.NDArray[np.float64]

_PEAK = 255.0
_WINDOW = 11
_SIGMA = 1.5
_K1, _K2 = 0.01, 0.03
_STRIPE = 64  # rows of windows at a time: their data stay in the CPU's cache


class PsnrSsim(NamedTuple):
    """PSNR in dB (inf for equal images) and SSIM, over RGB and over luma."""

    psnr_rgb: float
    psnr_y: float
    ssim_rgb: float
    ssim_y: float


def score(hr: Image, sr: Image, *, border: int) -> PsnrSsim:
    """Scores one image, a few rows at a time, so that the memory does not grow with the image.

    Args:
        hr: uint8 [H, W, 1 or 3]. Every score of a grey image is over its own values.
        sr: uint8, of the same shape.
        border: Pixels to cut from every side before scoring; by convention the scale.

    Raises:
        ValueError: If the shapes differ, or the border leaves too few pixels for SSIM.
    """
    if hr.shape != sr.shape:
        raise ValueError(f"HR {hr.shape} and SR {sr.shape} differ in shape")
    if not can_be_scored(hr, border=border):
        raise ValueError(f"{hr.shape[1]}x{hr.shape[0]} pixels are too few to score with SSIM")
    inner = slice(border, -border) if border else slice(None)
    hr, sr = hr[inner, inner], sr[inner, inner]
    if np.array_equal(hr, sr):
        return PsnrSsim(math.inf, math.inf, 1.0, 1.0)
    height, width, channels = hr.shape
    squares = np.zeros(channels + 1)  # the last is luma
    similarities = np.zeros(channels + 1)
    windows = height - _WINDOW + 1
    for top in range(0, windows, _STRIPE):
        bottom = min(top + _STRIPE, windows)
        rows = slice(top, bottom + _WINDOW - 1)
        one, other = (_with_luma(image[rows].astype(np.float64)) for image in (hr, sr))
        similarities += _similarities(one, other).sum(axis=(0, 1))
        # The rows after these belong to the next stripe too; count them once.
        new = slice(0, None if bottom == windows else bottom - top)
        squares += ((one[new] - other[new]) ** 2).sum(axis=(0, 1))
    errors = squares / (height * width)
    similarities /= windows * (width - _WINDOW + 1)
    return PsnrSsim(
        _decibels(errors[:-1].mean()),
        _decibels(errors[-1]),
        float(similarities[:-1].mean()),
        float(similarities[-1]),
    )


def can_be_scored(hr: Image, *, border: int) -> bool:
    """Whether a window of SSIM fits inside the border."""
    return bool(min(hr.shape[:2]) >= 2 * border + _WINDOW)


def luma(image: Floats) -> Floats:
    """Limited-range luma: 16 + 65.481 R + 128.553 G + 24.966 B for R, G, B in [0, 1] (BT.601).

    Args:
        image: [H, W, 3] RGB or [H, W, 1] in [0, 255].

    Returns:
        [H, W, 1]: within [16, 235] for RGB; a grey image is returned as it is.
    """
    if image.shape[2] == 1:
        return image
    weights = np.array([65.481, 128.553, 24.966]) / 255
    return (image @ weights)[:, :, None] + 16


def psnr(one: Image | Floats, other: Image | Floats) -> float:
    """Peak signal-to-noise ratio in dB of values in [0, 255]; inf for equal images."""
    return _decibels(np.mean((one.astype(np.float64) - other.astype(np.float64)) ** 2))


def ssim(one: Floats, other: Floats) -> float:
    """Structural similarity (Wang et al. 2004, eq. 13), averaged over pixels and channels.

    An 11x11 Gaussian window of sigma 1.5, K1 = 0.01, K2 = 0.03, population covariances; only
    windows that lie whole in the image count.

    Args:
        one: float64 [H, W, C] in [0, 255], both sides at least 11.
        other: float64, of the same shape and range.

    Returns:
        At most 1; equal images give 1.
    """
    return float(_similarities(one, other).mean())


def _decibels(squared_error: float | np.floating) -> float:
    return float(10 * np.log10(_PEAK**2 / squared_error)) if squared_error else math.inf


def _with_luma(image: Floats) -> Floats:
    return np.concatenate([image, luma(image)], axis=2)


def _similarities(one: Floats, other: Floats) -> Floats:
    """SSIM of every whole window: [H - 10, W - 10, C]."""
    c1, c2 = (_K1 * _PEAK) ** 2, (_K2 * _PEAK) ** 2
    mean_one, mean_other = _window_mean(one), _window_mean(other)
    product, squares = mean_one * mean_other, mean_one**2 + mean_other**2
    covariance = _window_mean(one * other) - product
    variances = _window_mean(one * one + other * other) - squares
    return (2 * product + c1) * (2 * covariance + c2) / ((squares + c1) * (variances + c2))


def _window_mean(image: Floats) -> Floats:
    """Gaussian-weighted means of all whole windows."""
    weights = cv2.getGaussianKernel(_WINDOW, _SIGMA, cv2.CV_64F)
    filtered = cv2.sepFilter2D(image, cv2.CV_64F, weights, weights)
    half = _WINDOW // 2
    return np.asarray(filtered.reshape(image.shape)[half:-half, half:-half], np.float64)
