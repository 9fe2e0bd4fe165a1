"""HR and LR that belong together: one rule for prepare and evaluate. Pure functions."""

import math
from fractions import Fraction

import cv2
import numpy as np

from data_pipeline.images import Image, ImageError, as_rgb, describe_size
from data_pipeline.imresize import Kernel, imresize
from data_pipeline.patches import crop_to_multiple, is_pair

# On 80 photographs this names 99 of 100 LR of another picture, and 91 of 100 that are flipped; of
# LR by another kernel, of blurred LR and of JPEG of low quality it names 0 to 3 of 100.
_ALIKE_DB = 30.0
_UNLIKE_SHARE = 0.5

_BORDER = 2


def fit_pair(hr: Image, lr: Image, scale: int, lr_name: str) -> tuple[Image, Image]:
    """Makes a pair of an HR image and the LR image that was given for it.

    HR loses the rest of a side that is no multiple of the scale. Grey LR of an RGB image becomes
    RGB; RGB LR of a grey image becomes grey if it has no colour.

    Args:
        hr: uint8 [H, W, 1 or 3].
        lr: uint8 [h, w, 1 or 3].
        scale: HR side over LR side.
        lr_name: What messages call LR.

    Returns:
        HR [h * scale, w * scale, C] and LR [h, w, C].

    Raises:
        ImageError: If LR has another size than HR over `scale`, or colours that HR has not.
    """
    cut = crop_to_multiple(hr, scale)
    if lr.shape[2] < cut.shape[2]:
        lr = as_rgb(lr)
    elif lr.shape[2] > cut.shape[2] and np.array_equal(lr, as_rgb(lr[:, :, :1])):
        lr = lr[:, :, :1]
    if is_pair(cut, lr, scale):
        return cut, lr
    if is_pair(as_rgb(cut), as_rgb(lr), scale):
        raise ImageError(f"is grey, {lr_name} has colours; store both alike")
    height, width = (side // scale for side in hr.shape[:2])
    raise ImageError(
        f"{describe_size(hr)} is not {scale} times {lr_name} {describe_size(lr)}; pass the LR of "
        f"this HR, {width}x{height}"
    )


def doubt_about(hr: Image, lr: Image) -> str | None:
    """Says why LR may be that of another picture, or be turned, flipped or shifted.

    That is so where its PSNR against the downscaled HR is below 30 dB, and its error is more than
    half of the downscaled HR's variance: a flat picture would be hardly worse. HR is downscaled by
    the mean of each square: prepare would wait for a bicubic kernel.

    Args:
        hr: uint8 [H, W, C].
        lr: uint8 [H / scale, W / scale, C].

    Returns:
        The PSNR in words; None where LR is near.
    """
    height, width, channels = lr.shape
    means = cv2.resize(hr, (width, height), interpolation=cv2.INTER_AREA)
    expected = means.reshape(height, width, channels).astype(np.float32)
    error = float(np.mean((expected - lr) ** 2))
    variance = float(np.mean(expected.var(axis=(0, 1))))
    psnr = _psnr(error)
    if psnr >= _ALIKE_DB or error <= _UNLIKE_SHARE * variance:
        return None
    return f"{psnr:.1f} dB from the downscaled HR"


def lr_psnr(image: Image, lr: Image, scale: int, kernel: Kernel) -> float:
    """PSNR in dB between LR and an image of HR's shape, downscaled to it; `inf` if they are equal.

    LR determines colours and low frequencies; the value is low when the image has others. Two LR
    pixels are cut from every side, because kernels differ in how they continue an image beyond its
    edge, and beside a patch is more of its image.

    Args:
        image: uint8 [H, W, C], HR or what a method made.
        lr: uint8 [H / scale, W / scale, C].
        scale: HR side over LR side.
        kernel: The kernel that downscales the image.
    """
    cut = min(_BORDER, (min(lr.shape[:2]) - 1) // 2)
    inner = slice(cut, -cut or None)
    made = imresize(image, Fraction(1, scale), kernel)[inner, inner].astype(np.float64)
    return _psnr(float(np.mean((lr[inner, inner].astype(np.float64) - made) ** 2)))


def _psnr(error: float) -> float:
    return float(10 * np.log10(255.0**2 / error)) if error else math.inf
