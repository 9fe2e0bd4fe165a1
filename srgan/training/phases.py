"""A run's phases laid out over its steps. Pure."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from srgan.config import PhaseConfig


class Phase(NamedTuple):
    """A phase and the run's steps [start, stop) that it takes.

    Attributes:
        name: Its name in the configuration.
        config: Its losses and learning rate.
        start: The run's step that it begins with.
        stop: The run's step that it ends before.
        epoch_steps: Steps of an epoch; the last one may be cut short.
        is_last: Whether the run ends with it: its epochs are the ones that are evaluated.
    """

    name: str
    config: PhaseConfig
    start: int
    stop: int
    epoch_steps: int
    is_last: bool

    @property
    def steps(self) -> int:
        """Its length."""
        return self.stop - self.start

    @property
    def epochs(self) -> int:
        """Its epochs, a cut one among them."""
        return -(-self.steps // self.epoch_steps)

    def epoch_stop(self, epoch: int) -> int:
        """The run's step that an epoch, counted from 1, ends before."""
        return min(self.start + epoch * self.epoch_steps, self.stop)

    def border_before(self, step: int) -> int:
        """The run's last step up to `step` that is the border of two epochs."""
        return step - (step - self.start) % self.epoch_steps

    def epoch_of(self, step: int) -> int:
        """The epoch, counted from 1, that the run's step `step` belongs to."""
        return (step - self.start) // self.epoch_steps + 1


def plan_phases(phases: Mapping[str, PhaseConfig], epoch_steps: int) -> list[Phase]:
    """Lays phases one after the other, in their order in the configuration."""
    plan: list[Phase] = []
    start = 0
    for number, (name, config) in enumerate(phases.items(), 1):
        stop = start + (config.steps or (config.epochs or 0) * epoch_steps)
        plan.append(Phase(name, config, start, stop, epoch_steps, number == len(phases)))
        start = stop
    return plan


def phase_of(phases: Sequence[Phase], step: int) -> Phase:
    """The phase that made the run's state after `step` steps; the first one for 0."""
    return next(phase for phase in phases if step <= phase.stop)
