"""The geometric self-ensemble of a super-resolution network. Pure."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]


def eightfold(function: Callable[[Floats], Floats], image: Floats) -> Floats:
    """The mean of what a function makes of the eight flips and turns of an image.

    Each result is turned back before (Timofte et al. 2016, "Seven ways to improve example-based
    single image super resolution", section 3.6).

    Args:
        function: Maps float [h, w, C] to float [h * scale, w * scale, D].
        image: float [h, w, C].

    Returns:
        float [h * scale, w * scale, D], not rounded.
    """
    total: Floats | None = None
    for turns in range(4):
        for flip in (False, True):
            seen = np.rot90(image[:, ::-1] if flip else image, turns)
            made = np.rot90(function(np.ascontiguousarray(seen)), -turns)
            made = made[:, ::-1] if flip else made
            if total is None:
                total = np.array(made)
            else:
                total += made
    assert total is not None  # there are eight
    total /= 8
    return total
