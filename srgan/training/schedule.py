"""The learning rate of every step of a phase."""

from typing import Any

import keras
from keras.optimizers import schedules

from srgan.config import LearningRateConfig


def rate_schedule(rate: LearningRateConfig, steps: int) -> Any:
    """What Adam takes as its learning rate: a number if it stays the same, else a schedule.

    Args:
        rate: The phase's.
        steps: The phase's length.
    """
    decayed: Any = rate.initial
    if rate.decay == "cosine":
        decayed = schedules.CosineDecay(rate.initial, steps)
    elif rate.decay == "drop":
        decayed = schedules.PiecewiseConstantDecay(
            [(steps + 1) // 2 - 1], [rate.initial, rate.initial / 10]
        )
    return _WarmUp(decayed, rate.warmup_steps) if rate.warmup_steps else decayed


def rate_of(rate: LearningRateConfig, steps: int, step: int) -> float:
    """The learning rate of one step of a phase.

    Args:
        rate: The phase's.
        steps: The phase's length.
        step: The step, from 0.

    Returns:
        The shortest decimal that stands for Adam's own number: 0.0001, not 9.999999747378752e-05.
    """
    schedule = rate_schedule(rate, steps)
    value = keras.ops.cast(
        schedule(step) if callable(schedule) else schedule, keras.config.floatx()
    )
    return float(str(keras.ops.convert_to_numpy(value)[()]))


class _WarmUp(schedules.LearningRateSchedule):
    """Another schedule's rate, or a constant one, times (step + 1) / steps in the first steps."""

    def __init__(self, after: Any, steps: int) -> None:
        super().__init__()
        self._after, self._steps = after, steps

    def __call__(self, step: Any) -> Any:
        """The rate of a step, from 0."""
        rate = self._after(step) if callable(self._after) else self._after
        share = (keras.ops.cast(step, keras.config.floatx()) + 1) / self._steps
        return rate * keras.ops.minimum(share, 1)
