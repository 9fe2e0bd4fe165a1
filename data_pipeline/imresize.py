"""Bicubic resizing by the conventions of super-resolution papers.

`matlab` is MATLAB's `imresize(..., 'bicubic')`, which made DIV2K's LR_bicubic tracks:
Keys' cubic with a = -0.5 (R. Keys, "Cubic Convolution Interpolation for Digital Image
Processing", 1981, eq. 15), widened by the scale when shrinking, half-pixel centres,
symmetric edges, the vertical axis first, rounding to whole levels between the two passes.
`opencv` is `cv2.resize(..., INTER_CUBIC)`: a = -0.75 and no antialiasing.
"""

from fractions import Fraction
from functools import lru_cache
from typing import Literal, TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from data_pipeline.images import Image

Kernel = Literal["matlab", "opencv"]
Sample = TypeVar("Sample", np.uint8, np.uint16)
Floats = npt.NDArray[np.float32]
Samples = TypeVar("Samples", Image, npt.NDArray[np.uint16], Floats)

# HR side / LR side: what data sets are prepared for, and generators built for.
SCALES = (2, 3, 4, 8)

# Samples per block of rows: the temporaries stay in a core's cache.
_BLOCK_ELEMENTS = 1 << 16


def imresize(
    image: npt.NDArray[Sample], scale: float | Fraction, kernel: Kernel = "matlab"
) -> npt.NDArray[Sample]:
    """Resizes an image by `scale`: 4 enlarges four times, Fraction(1, 4) shrinks.

    Args:
        image: uint8 or uint16 [H, W] or [H, W, C].
        scale: Positive factor for both axes.
        kernel: `matlab` or `opencv`, see the module's docstring.

    Returns:
        [ceil(H * scale), ceil(W * scale)(, C)] of the same type.

    Raises:
        ValueError: If the image is not uint8 or uint16 of 2 or 3 axes, is empty, or scale is not
            positive.
    """
    if image.dtype not in (np.uint8, np.uint16) or image.ndim not in (2, 3) or 0 in image.shape:
        raise ValueError(
            f"expected a uint8 or uint16 image [H, W] or [H, W, C], got {image.dtype} {image.shape}"
        )
    exact = Fraction(scale).limit_denominator(1 << 16)
    if exact <= 0:
        raise ValueError(f"scale must be positive, got {scale}")
    height, width = (-(-side * exact.numerator // exact.denominator) for side in image.shape[:2])
    if kernel == "opencv":
        resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC)
        return np.asarray(resized, image.dtype).reshape(height, width, *image.shape[2:])
    return _resize(image, height, width, exact)


def imresize_floats(image: Floats, scale: Fraction) -> Floats:
    """As `imresize` with the kernel `matlab`, of float32 [H, W, C]; nothing is rounded or cut."""
    height, width = (-(-side * scale.numerator // scale.denominator) for side in image.shape[:2])
    return _resize(image, height, width, scale)


def enlarge_nearest(image: Image, factor: int) -> Image:
    """uint8 [H, W, C] -> uint8 [H * factor, W * factor, C]: every pixel becomes a square."""
    return image.repeat(factor, axis=0).repeat(factor, axis=1)


def _cubic(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Keys' cubic convolution kernel, a = -0.5 (Keys 1981, eq. 15)."""
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return np.where(x <= 1, near, np.where(x <= 2, far, 0.0))


@lru_cache(maxsize=64)
def _contributions(
    in_length: int, out_length: int, scale: Fraction
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.intp]]:
    """Weights and source indices of every output sample along one axis.

    Returns:
        weights: float64 [out_length, taps], each row sums to 1.
        indices: [out_length, taps] into the input, mirrored at the edges.
    """
    factor = float(scale)
    stretch = min(factor, 1.0)  # shrinking widens the kernel: antialiasing
    width = 4.0 / stretch
    centres = (np.arange(out_length) + 0.5) / factor - 0.5
    taps = int(np.ceil(width)) + 2
    indices = np.floor(centres - width / 2).astype(np.intp)[:, None] + np.arange(taps)
    weights = stretch * _cubic(stretch * (centres[:, None] - indices))
    used = np.any(weights != 0.0, axis=0)
    weights, indices = weights[:, used], indices[:, used]
    weights /= weights.sum(axis=1, keepdims=True)
    mirrored = indices % (2 * in_length)
    return weights, np.where(mirrored < in_length, mirrored, 2 * in_length - 1 - mirrored)


def _is_exact_in_float32(weights: npt.NDArray[np.float64]) -> bool:
    """Whether sums of uint8 samples times these weights are exact in float32.

    True for the scales 2 and 4 in both directions: their weights are multiples of 2^-14, and
    every partial sum is below 2^10, so that float32's 24 bits hold it.
    """
    bound = 255.0 * np.abs(weights).sum(axis=1).max()
    return bool(np.all(weights * 2**14 % 1 == 0) and bound < 2**10)


def _resize(image: Samples, height: int, width: int, scale: Fraction) -> Samples:
    rows = _resize_rows(image, height, scale)
    return np.ascontiguousarray(_resize_rows(rows.swapaxes(0, 1), width, scale).swapaxes(0, 1))


def _resize_rows(image: Samples, out_height: int, scale: Fraction) -> Samples:
    """Resizes the first axis: sums tap by tap over blocks of output rows."""
    weights, indices = _contributions(image.shape[0], out_height, scale)
    is_rounded = image.dtype.kind == "u"
    is_exact = image.dtype == np.uint8 and _is_exact_in_float32(weights)
    rounded_in = np.float32 if is_exact else np.float64
    dtype = np.dtype(rounded_in) if is_rounded else image.dtype
    image = np.ascontiguousarray(image)
    flat = image.reshape(image.shape[0], -1)
    out = np.empty((out_height, flat.shape[1]), image.dtype)
    block = max(1, _BLOCK_ELEMENTS // flat.shape[1])
    for start in range(0, out_height, block):
        rows = slice(start, min(start + block, out_height))
        first = 0.5 if is_rounded else 0
        total = np.full((rows.stop - rows.start, flat.shape[1]), first, dtype)
        for weight, index in zip(
            weights[rows].T[:, :, None].astype(dtype), indices[rows].T, strict=True
        ):
            total += flat[index] * weight
        if is_rounded:
            # The sum began at 0.5: truncation now rounds half up, as MATLAB does.
            np.clip(total, 0, 255 if image.dtype == np.uint8 else 65535, out=total)
        out[rows] = total
    return out.reshape(out_height, *image.shape[1:])
