"""HR and LR that belong together: one rule for prepare and evaluate. Pure functions."""

import math
from collections.abc import Iterator
from fractions import Fraction
from typing import get_args

import cv2
import numpy as np
import numpy.typing as npt

from data_pipeline.images import Image, ImageError, as_rgb, describe_size
from data_pipeline.imresize import Kernel, imresize
from data_pipeline.patches import crop_to_multiple, is_pair

# On 80 photographs at x4 this names, of 100 LR each: all of another picture, all that are upside
# down, 88 that are mirrored, 80 that are shifted by 8 pixels of LR, 39 that are shifted by 3; none
# that another kernel made, 1 that is blurred, 1 that is JPEG of quality 10.
_ALIKE_DB = 30.0
_UNLIKE_SHARE = 0.5

_BORDER = 2


def fit_pair(hr: Image, lr: Image, scale: int, lr_name: str) -> tuple[Image, Image]:
    """Makes a pair of an HR image and the LR image that was given for it.

    HR loses the rest of a side that is no multiple of the scale. LR of the whole HR, rounded up as
    MATLAB's imresize does, loses the pixel of that rest. Grey LR of an RGB image becomes RGB; RGB
    LR of a grey image becomes grey if it has no colour.

    Args:
        hr: uint8 [H, W, 1 or 3].
        lr: uint8 [h, w, 1 or 3].
        scale: HR side over LR side.
        lr_name: What messages call LR.

    Returns:
        HR [h * scale, w * scale, C] and LR [h, w, C], views of what was given.

    Raises:
        ImageError: If LR has another size than HR over `scale`, or colours that HR has not.
    """
    cut = crop_to_multiple(hr, scale)
    height, width = cut.shape[0] // scale, cut.shape[1] // scale
    sides = zip(hr.shape[:2], lr.shape[:2], strict=True)
    if cut.size and all(small in (side // scale, -(-side // scale)) for side, small in sides):
        lr = lr[:height, :width]
    if lr.shape[2] < cut.shape[2]:
        lr = as_rgb(lr)
    elif lr.shape[2] > cut.shape[2] and np.array_equal(lr, as_rgb(lr[:, :, :1])):
        lr = lr[:, :, :1]
    if is_pair(cut, lr, scale):
        return cut, lr
    if is_pair(as_rgb(cut), as_rgb(lr), scale):
        raise ImageError(f"is grey, {lr_name} has colours; store both alike")
    raise ImageError(
        f"{describe_size(hr)} is not {scale} times {lr_name} {describe_size(lr)}; pass the LR of "
        f"this HR, {width}x{height}"
    )


def doubt_about(hr: Image, lr: Image) -> str | None:
    """Says why LR may be that of another picture, or be turned, flipped or shifted far.

    That is so where its PSNR against the downscaled HR is below 30 dB, and its error is more than
    half of the downscaled HR's variance: a flat picture would be hardly worse. The first comparison
    is with the mean of each square of HR, as prepare would wait for a bicubic kernel. LR that looks
    wrong is then compared with what each kernel makes of HR: it may be right where HR has lines of
    one pixel.

    Args:
        hr: uint8 [H, W, C].
        lr: uint8 [H / scale, W / scale, C].

    Returns:
        The highest of these PSNRs in words; None where LR is near.
    """
    highest = -math.inf
    for expected in _downscaled(hr, lr.shape):
        error = float(np.mean((expected - lr) ** 2))
        variance = float(np.mean(expected.var(axis=(0, 1))))
        psnr = _psnr(error)
        if psnr >= _ALIKE_DB or error <= _UNLIKE_SHARE * variance:
            return None
        highest = max(highest, psnr)
    return f"{highest:.1f} dB from the downscaled HR"


def _downscaled(hr: Image, shape: tuple[int, ...]) -> Iterator[npt.NDArray[np.float32]]:
    """HR in the shape of LR [h, w, C]: by the mean of each square, then by every kernel."""
    means = cv2.resize(hr, shape[1::-1], interpolation=cv2.INTER_AREA)
    yield means.reshape(shape).astype(np.float32)
    for kernel in get_args(Kernel):
        yield imresize(hr, Fraction(shape[0], hr.shape[0]), kernel).astype(np.float32)


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
