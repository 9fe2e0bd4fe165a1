"""When a dry run has timed enough steps of a phase."""

from collections.abc import Sequence

import numpy as np

MOST_STEPS = 50

_FEWEST_STEPS = 5
_SECONDS = 60.0
_SMALL_ERROR = 0.05


class Rehearsal:
    """The seconds of a phase's steps, but for the first one, which compiles."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def begin_phase(self) -> None:
        """A phase begins."""
        self.seconds.clear()

    def add(self, seconds: float) -> None:
        """A step took so long."""
        self.seconds.append(seconds)

    def is_enough(self) -> bool:
        """See `is_enough`."""
        return is_enough(self.seconds)


def is_enough(seconds: Sequence[float]) -> bool:
    """Whether these steps tell what a step takes. Pure.

    At least five, then until the mean is known to 5 %, a minute is over, or there are fifty.
    """
    if len(seconds) < _FEWEST_STEPS:
        return False
    low, mean, high = mean_range(seconds)
    known = high - low <= 2 * _SMALL_ERROR * mean
    return known or sum(seconds) >= _SECONDS or len(seconds) >= MOST_STEPS


def mean_range(values: Sequence[float]) -> tuple[float, float, float]:
    """The mean of two or more values, between two standard errors below and above. Pure.

    A sum of many steps follows their mean, not their median. The standard error is s / sqrt(n),
    with the sample's standard deviation s.
    """
    mean = float(np.mean(values))
    error = float(np.std(values, ddof=1)) / len(values) ** 0.5
    return max(0.0, mean - 2 * error), mean, mean + 2 * error
