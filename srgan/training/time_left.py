"""How long the rest of a run takes, from what its phases have taken so far."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from srgan.training.phases import Phase
from srgan.training.totals import EpochTotals

JOB_END_SECONDS = 5.0
"""From the workers' end to the job's, about: Ray notices it, frees their places and shuts down. The
workers, who tell the time left, cannot measure it."""


class Costs(NamedTuple):
    """What is known of a run's parts, in seconds.

    Attributes:
        steps: Of a step, by phase, without compiling.
        begin: Until a phase's first step is done, without the step: it builds and compiles.
        epoch_end: For which the training stands still at the end of an epoch.
        run_end: From the last step until everything is saved and validated.
    """

    steps: Mapping[str, float]
    begin: float
    epoch_end: float
    run_end: float


class TimeLeft(NamedTuple):
    """Seconds, and the phases whose steps are not measured yet: theirs follow from FLOPs."""

    seconds: float
    estimated: tuple[str, ...]


def time_left(
    phases: Sequence[Phase], step: int, costs: Costs, flops: Mapping[str, float]
) -> TimeLeft | None:
    """What is left after `step` steps, to the job's end; None if no phase is measured. Pure.

    A phase that is not measured runs at the FLOP/s of the measured one before it, else after it.

    Args:
        phases: The run's.
        step: Steps of the run that are done.
        costs: What is known.
        flops: Of a step of each phase, or in proportion to that.
    """
    measured = [number for number, phase in enumerate(phases) if phase.name in costs.steps]
    if not measured:
        return None
    seconds, estimated = costs.run_end + JOB_END_SECONDS, []
    for number, phase in enumerate(phases):
        done = min(max(step, phase.start), phase.stop) - phase.start
        if done == phase.steps:
            continue
        near = phases[max((one for one in measured if one <= number), default=measured[0])].name
        each = costs.steps[near]
        if near != phase.name:
            each *= flops[phase.name] / flops[near]
            estimated.append(phase.name)
        seconds += each * (phase.steps - done)
        seconds += costs.epoch_end * (phase.epochs - done // phase.epoch_steps)
        seconds += 0 if done else costs.begin
    return TimeLeft(seconds, tuple(estimated))


class Stopwatch:
    """Measures the phases of this attempt. Until it has, earlier attempts' epochs count."""

    def __init__(
        self, phases: Sequence[Phase], flops: Mapping[str, float], records: Sequence[dict[str, Any]]
    ) -> None:
        """Takes a step's FLOPs by phase, and the lines of metrics.jsonl of earlier attempts."""
        self._phases, self._flops = phases, flops
        self._earlier = recorded_costs(records)
        self._sums: dict[str, EpochTotals] = {phase.name: EpochTotals() for phase in phases}
        self._ends = 0
        self._restored: dict[str, float] = {}

    def restore(self, sums: Mapping[str, float]) -> None:
        """The current epoch has these sums of an earlier attempt, which are not measured here."""
        self._restored = dict(sums)

    def end_epoch(self, phase: Phase, sums: Mapping[str, float]) -> None:
        """An epoch of these sums has ended."""
        self._sums[phase.name].add(**self._own(sums))
        self._restored = {}
        self._ends += 1

    def left(
        self, phase: Phase, step: int, sums: Mapping[str, float], run_end: float
    ) -> TimeLeft | None:
        """What is left; None while it cannot be known.

        Args:
            phase: The current one.
            step: Steps of the run that are done.
            sums: Of the current epoch.
            run_end: As in Costs.
        """
        total = {name: EpochTotals(one.sums) for name, one in self._sums.items()}
        total[phase.name].add(**self._own(sums))
        own = {
            name: each
            for name, one in total.items()
            if (each := steady_seconds(one.sums)) is not None
        }
        earlier = self._earlier
        known = {**(earlier.steps if earlier else {}), **own}
        begin = begin_seconds(total[phase.name].sums, known.get(phase.name, 0.0))
        saves = sum(one.sums.get("save_seconds", 0) for one in total.values())
        epoch_end = saves / max(1, self._ends)
        if earlier and not self._ends:
            epoch_end = max(epoch_end, earlier.epoch_end)
        return time_left(self._phases, step, Costs(known, begin, epoch_end, run_end), self._flops)

    def _own(self, sums: Mapping[str, float]) -> dict[str, float]:
        return {name: value - self._restored.get(name, 0) for name, value in sums.items()}


def steady_seconds(sums: Mapping[str, float]) -> float | None:
    """Seconds of a step, with what lies between calls, but without first calls and saves.

    Args:
        sums: Those of EpochTotals.

    Returns:
        None where every step was in a first call.
    """
    get = sums.get
    steps = get("steps", 0) + get("skipped_steps", 0) - get("first_steps", 0)
    if steps <= 0:
        return None
    first = get("startup_seconds", 0) - get("before_seconds", 0) + get("first_call_seconds", 0)
    return max(0.0, get("seconds", 0) - first - get("save_seconds", 0)) / steps


def begin_seconds(sums: Mapping[str, float], step: float) -> float:
    """Seconds from a phase's beginning to its first step, compiling included.

    Args:
        sums: Those of EpochTotals, over epochs of one phase that began once.
        step: Seconds of a step.
    """
    get = sums.get
    startup = max(0.0, get("startup_seconds", 0) - get("before_seconds", 0))
    first = get("first_call_seconds", 0) - get("first_wait_seconds", 0)
    return startup + max(0.0, first - step * get("first_steps", 0))


def recorded_costs(records: Sequence[Mapping[str, Any]]) -> Costs | None:
    """What the lines of metrics.jsonl tell; None if they tell nothing.

    Lines of versions that did not know `compute_seconds`, and of epochs of one call, do not count.
    """
    seconds: dict[str, float] = {}
    steps: dict[str, int] = {}
    saves, before = [], 0
    for record in records:
        count, before = record["step"] - before, record["step"]
        if record.get("compute_seconds", 0) > 0:
            phase = record["phase"]
            used = sum(record[f"{use}_seconds"] for use in ("compute", "data_wait", "other"))
            seconds[phase] = seconds.get(phase, 0.0) + used
            steps[phase] = steps.get(phase, 0) + count
            saves.append(record["save_seconds"])
    if not saves:
        return None
    each = {phase: seconds[phase] / steps[phase] for phase in seconds}
    return Costs(each, begin=0.0, epoch_end=sum(saves) / len(saves), run_end=0.0)
