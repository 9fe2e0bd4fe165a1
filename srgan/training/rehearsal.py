"""When a dry run has timed enough steps of a phase."""

from collections.abc import Sequence

import numpy as np

MOST_STEPS = 50

_FEWEST_STEPS = 5
_SECONDS = 60.0
_SMALL_SPREAD = 0.05


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

    At least five, then until the quartiles are 5 % of the median apart, or a minute is over.
    """
    if len(seconds) < _FEWEST_STEPS:
        return False
    low, median, high = quartiles(seconds)
    return high - low <= _SMALL_SPREAD * median or sum(seconds) >= _SECONDS


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """The first quartile, the median and the third quartile of one or more values. Pure."""
    low, median, high = np.percentile(values, (25, 50, 75)).tolist()
    return low, median, high
