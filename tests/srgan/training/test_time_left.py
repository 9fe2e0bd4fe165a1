"""The time left of a run, against simulated runs whose costs are known."""

import pytest

from srgan.config_file import parse_config
from srgan.training.phases import plan_phases
from srgan.training.time_left import (
    JOB_END_SECONDS,
    Costs,
    Stopwatch,
    recorded_costs,
    steady_seconds,
    time_left,
)
from srgan.training.totals import EpochTotals

PHASES = plan_phases(
    parse_config(
        "phases: {first: {steps: 95, losses: {mse: 1}}, second: {steps: 60, losses: {mse: 1}}}",
        "test",
    ).phases,
    epoch_steps=20,
)
FLOPS = {"first": 10.0, "second": 40.0}
STEP = {"first": 0.5, "second": 2.2}  # the second phase is 10 % slower than its FLOPs say
BEGIN, SAVE, RUN_END = 20.0, 3.0, 12.0
WORKER_START = 30.0


class Run:
    """A simulated run: a clock, and what the training loop adds to its sums."""

    def __init__(self, stopwatch, *, step=0, speed=1.0):
        self.stopwatch, self.step, self.speed = stopwatch, step, speed
        self.now, self.totals = 0.0, EpochTotals()
        self.told = []  # (time, what is left by the stopwatch)

    def train(self, stop):
        for phase in PHASES:
            first = True
            while phase.start <= self.step < min(phase.stop, stop):
                self._step(phase, first=first)
                first = False
        for at, left in self.told:
            yield at / self.now, left, self.now + RUN_END + JOB_END_SECONDS - at

    def _step(self, phase, *, first):
        seconds = STEP[phase.name] / self.speed
        if first:
            before = WORKER_START if not self.told else 0.0
            self.now += BEGIN
            self.totals.add(
                before_seconds=before,
                startup_seconds=before + 5.0,
                first_steps=1,
                first_call_seconds=BEGIN - 5.0 + seconds,
                seconds=BEGIN,
            )
        self.now += seconds
        self.step += 1
        self.totals.add(steps=1, seconds=seconds)
        if self.step == phase.epoch_stop(phase.epoch_of(self.step - 1)):
            self.stopwatch.end_epoch(phase, self.totals.sums)
            self.now += SAVE
            self.totals = EpochTotals({"save_seconds": SAVE, "seconds": SAVE})
        left = self.stopwatch.left(phase, self.step, self.totals.sums, RUN_END)
        self.told.append((self.now, left))


def test_it_is_within_a_quarter_from_a_tenth_of_the_run_on():
    told = list(Run(Stopwatch(PHASES, FLOPS, [])).train(155))
    assert told[0][1] is None  # only a call that compiled is done
    for share, left, rest in told:
        if share >= 0.1:
            measured = left and not left.estimated
            assert left.seconds == pytest.approx(rest, rel=0.02 if measured else 0.25), share
    estimated = [bool(left.estimated) for _, left, _ in told[1:]]
    assert estimated == [True] * 95 + [False] * 59
    assert told[50][1].estimated == ("second",)


def test_phases_are_measured_or_follow_from_their_flops():
    known = {"steps": {"first": 0.5}, "begin": 20.0, "epoch_end": 3.0, "run_end": 12.0}
    left = time_left(PHASES, 90, Costs(**known), FLOPS)
    end = 12 + JOB_END_SECONDS
    # 5 steps and an epoch's end; the next phase begins, 60 steps of 4 times the FLOPs, 3 ends.
    assert left == (5 * 0.5 + 3 + 20 + 60 * 2.0 + 3 * 3 + end, ("second",))
    measured = Costs(**known | {"steps": STEP})
    assert time_left(PHASES, 90, measured, {}) == (5 * 0.5 + 3 + 20 + 60 * 2.2 + 3 * 3 + end, ())
    assert time_left(PHASES, 155, measured, {}) == (end, ())
    later = time_left(PHASES, 0, Costs(**known | {"steps": {"second": 2.0}}), FLOPS)
    assert later == (2 * 20 + 95 * 0.5 + 60 * 2.0 + 8 * 3 + end, ("first",))
    assert time_left(PHASES, 0, Costs(**known | {"steps": {}}), FLOPS) is None


def record(phase, step, *, steps, save=0.0):
    """A line of metrics.jsonl: 1 s of start-up; waiting and the rest take a tenth each."""
    seconds = steps * STEP[phase]
    shares = {"compute": 0.8 * seconds, "data_wait": 0.1 * seconds, "other": 0.1 * seconds}
    uses = {f"{use}_seconds": one for use, one in (shares | {"startup": 1.0}).items()}
    return {"phase": phase, "step": step, "save_seconds": save, **uses}


def test_a_resumed_run_knows_its_earlier_epochs_until_it_has_its_own():
    """The second attempt is twice as fast, and goes on in the middle of an epoch."""
    old = {"phase": "first", "step": 20, "seconds": 99.0}  # of a version that knew no uses
    records = [old, record("first", 40, steps=20), record("first", 60, steps=20, save=2 * SAVE)]
    earlier = recorded_costs(records)
    assert earlier.steps == {"first": pytest.approx(0.5)}
    assert earlier.epoch_end == SAVE
    assert recorded_costs([old, record("first", 40, steps=20) | {"compute_seconds": 0}]) is None
    stopwatch = Stopwatch(PHASES, FLOPS, records)
    sums = {"steps": 9.0, "seconds": 9 * 0.5}
    stopwatch.restore(sums)
    run = Run(stopwatch, step=69, speed=2.0)
    run.totals.add(**sums)
    told = list(run.train(155))
    assert told[0][1].seconds > told[0][2]  # by the slow attempt
    for _, left, rest in told[1:]:
        assert left.seconds == pytest.approx(rest, rel=0.1)


def test_steady_seconds_leave_out_first_calls_and_saves():
    sums = {"steps": 12, "skipped_steps": 1, "first_steps": 3, "seconds": 40.0}
    sums |= {"before_seconds": 7.0, "startup_seconds": 11.0, "first_call_seconds": 9.0}
    assert steady_seconds(sums | {"save_seconds": 2.0}) == 2.5  # (40 - (11 - 7) - 9 - 2) / 10
    assert steady_seconds({"steps": 3, "first_steps": 3, "seconds": 9.0}) is None
