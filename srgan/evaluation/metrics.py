"""PSNR and SSIM by the protocol of super-resolution papers. Pure functions."""

from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]

_PEAK = 255.0
_WINDOW = 11
_SIGMA = 1.5
_K1, _K2 = 0.01, 0.03


class Scores(NamedTuple):
    """PSNR in dB (inf for equal images) and SSIM, over RGB and over luma."""

    psnr_rgb: float
    psnr_y: float
    ssim_rgb: float
    ssim_y: float


def score(hr: Image, sr: Image, *, border: int) -> Scores:
    """Scores one image.

    Args:
        hr: uint8 [H, W, 1 or 3]. A grey image is scored on its own values, everywhere.
        sr: Likewise, same shape.
        border: Pixels cut from every side before scoring; the scale, by convention.

    Returns:
        The scores.

    Raises:
        ValueError: If the shapes differ or too little is left inside the border for SSIM.
    """
    if hr.shape != sr.shape:
        raise ValueError(f"HR {hr.shape} and SR {sr.shape} differ in shape")
    if not can_be_scored(hr, border=border):
        raise ValueError(f"{hr.shape[1]}x{hr.shape[0]} pixels are too few to score with SSIM")
    inner = slice(border, -border) if border else slice(None)
    one, other = (image[inner, inner].astype(np.float64) for image in (hr, sr))
    y_one, y_other = luma(one), luma(other)
    return Scores(psnr(one, other), psnr(y_one, y_other), ssim(one, other), ssim(y_one, y_other))


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


def psnr(one: Floats, other: Floats) -> float:
    """Peak signal-to-noise ratio in dB for values in [0, 255]; inf where they are equal."""
    error = float(np.mean((one - other) ** 2))
    return float(10 * np.log10(_PEAK**2 / error)) if error else float("inf")


def ssim(one: Floats, other: Floats) -> float:
    """Structural similarity (Wang et al. 2004, eq. 13), averaged over pixels and channels.

    An 11x11 Gaussian window of sigma 1.5, K1 = 0.01, K2 = 0.03, population covariances; only
    windows that lie within the image count.

    Args:
        one: float64 [H, W, C] in [0, 255], both sides at least 11.
        other: Likewise, same shape.

    Returns:
        At most 1, which equal images reach.
    """
    c1, c2 = (_K1 * _PEAK) ** 2, (_K2 * _PEAK) ** 2
    mean_one, mean_other = _window_mean(one), _window_mean(other)
    variance_one = _window_mean(one * one) - mean_one**2
    variance_other = _window_mean(other * other) - mean_other**2
    covariance = _window_mean(one * other) - mean_one * mean_other
    luminance = (2 * mean_one * mean_other + c1) / (mean_one**2 + mean_other**2 + c1)
    structure = (2 * covariance + c2) / (variance_one + variance_other + c2)
    return float(np.mean(luminance * structure))


def _window_mean(image: Floats) -> Floats:
    """Gaussian-weighted means of all whole windows."""
    weights = cv2.getGaussianKernel(_WINDOW, _SIGMA, cv2.CV_64F)
    filtered = cv2.sepFilter2D(image, cv2.CV_64F, weights, weights)
    half = _WINDOW // 2
    return np.asarray(filtered.reshape(image.shape)[half:-half, half:-half], np.float64)
