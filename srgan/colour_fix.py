"""The low frequencies of LR, put back into SR: a generator may shift colours. Pure.

LR determines the low frequencies of its picture. What SR misses of LR is found by shrinking SR,
smoothed, enlarged and added: one step of back-projection (Irani and Peleg 1991, "Improving
resolution by image registration") that a Gaussian keeps from the high frequencies. These
depend on how LR was made, which is not known of a photograph.
"""

import math
from fractions import Fraction

import cv2
import numpy as np
import numpy.typing as npt

from data_pipeline.imresize import imresize_floats

Floats = npt.NDArray[np.float32]

# In LR pixels. On Set5 and Set14 a GAN's LR PSNR rises by 1.7 dB, and LPIPS stays as it is
# (benchmarks/results/colour_fix.json). A smaller one raises it more, where LR is bicubic.
_SIGMA = 1.0
_RADIUS = math.ceil(3 * _SIGMA)  # of the Gaussian, LR pixels

HALO = _RADIUS + 5
"""How far the fix looks beyond the generator, in LR pixels: bicubic reaches 2.5 px each way."""


def with_lows_of(lr: Floats, sr: Floats, scale: int, sigma: float = _SIGMA) -> Floats:
    """SR with the low frequencies of LR.

    Args:
        lr: float32 [h, w, 3] in [0, 1].
        sr: float32 [h * scale, w * scale, 3] in [-1, 1].
        scale: HR side over LR side.
        sigma: Standard deviation of the Gaussian in LR pixels; 0 puts all back that LR has.

    Returns:
        float32 of SR's shape; some values may lie a little outside [-1, 1].
    """
    missing = 2 * lr - 1 - imresize_floats(sr, Fraction(1, scale))
    if sigma:
        size = 2 * math.ceil(3 * sigma) + 1
        blurred = cv2.GaussianBlur(missing, (size, size), sigma, borderType=cv2.BORDER_REFLECT)
        missing = np.asarray(blurred, np.float32)
    return sr + imresize_floats(missing, Fraction(scale))
