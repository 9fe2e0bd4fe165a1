"""A run's phases laid out over its steps. Pure."""

from collections.abc import Mapping
from typing import NamedTuple

from srgan.config import PhaseConfig


class Phase(NamedTuple):
    """A phase and the run's steps [start, stop) that it takes.

    Attributes:
        name: Its name in the configuration.
        config: Its losses and learning rate.
        start: The run's step that it begins with.
        stop: The run's step that it ends before.
        is_last: Whether the run ends with it: its epochs are the ones that are evaluated.
    """

    name: str
    config: PhaseConfig
    start: int
    stop: int
    is_last: bool

    @property
    def steps(self) -> int:
        """Its length."""
        return self.stop - self.start


def plan_phases(phases: Mapping[str, PhaseConfig], epoch_steps: int) -> list[Phase]:
    """Lays phases one after the other, in their order in the configuration."""
    plan: list[Phase] = []
    start = 0
    for number, (name, config) in enumerate(phases.items(), 1):
        stop = start + config.epochs * epoch_steps
        plan.append(Phase(name, config, start, stop, number == len(phases)))
        start = stop
    return plan


def phase_of(phases: list[Phase], step: int) -> Phase:
    """The phase that made the run's state after `step` steps; the first one for 0."""
    return next(phase for phase in phases if step <= phase.stop)
