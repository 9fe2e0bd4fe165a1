"""The paper's losses (Ledig et al. 2017, section 2.2) as pure functions of `keras.ops`."""

from typing import Any

from keras import ops


def pixel_mse(hr: Any, sr: Any) -> Any:
    """Mean squared error of every image (eq. 4).

    Args:
        hr: [N, H, W, 3] in [-1, 1].
        sr: Likewise, same dtype.

    Returns:
        [N]: not yet averaged over the batch, whose size only the caller knows.
    """
    return ops.mean(ops.square(hr - sr), axis=(1, 2, 3))
