"""Sums over the steps of an epoch, and what follows from them. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from srgan.training.phases import Phase

# What an epoch's seconds go into, as `seconds_by_use` names it, and what the log calls it.
USES = {
    "compute": "compute",
    "data_wait": "waiting for data",
    "save": "saving",
    "startup": "start-up and compiling",
    "other": "other",
}


_FIRST_CALL = "first_call_seconds"


class FinishedEpoch(NamedTuple):
    """An epoch whose generator, line in the log and validation are due.

    Attributes:
        phase: Its phase.
        epoch: Its number in the phase, from 1.
        record: What was measured.
    """

    phase: Phase
    epoch: int
    record: dict[str, Any]


class EpochTotals:
    """Sums over the steps of an epoch. A checkpoint holds the sums of an unfinished epoch."""

    def __init__(self, sums: Mapping[str, float] | None = None) -> None:
        """Begins an epoch, or goes on with one from its `sums`."""
        self.sums: dict[str, float] = dict(sums or {})

    def add_steps(
        self, names: Sequence[str], rows: npt.NDArray[np.float64], *, skipped: int = 0
    ) -> None:
        """Adds steps.

        Args:
            names: The terms.
            rows: [steps, terms], all finite.
            skipped: Steps that were computed and then left out. The means do not count them, the
                rates do.
        """
        self.add(steps=len(rows), skipped_steps=skipped)
        self.add(**dict(zip(names, rows.sum(axis=0).tolist(), strict=True)))

    def add(self, **amounts: float) -> None:
        """Adds to sums by name."""
        for name, amount in amounts.items():
            self.sums[name] = self.sums.get(name, 0) + amount

    @property
    def computed_steps(self) -> int:
        """All steps, with those that were left out."""
        return int(self.sums.get("steps", 0) + self.sums.get("skipped_steps", 0))

    def means(self, names: Sequence[str]) -> dict[str, float]:
        """Means over the steps."""
        steps = self.sums.get("steps", 0)
        return {name: self.sums[name] / steps for name in names} if steps else {}

    def speed(self, global_batch: int) -> dict[str, float]:
        """Seconds and rates of the steps so far, one or more, as metrics.jsonl has them.

        `first_call_seconds` is there if a phase's first call, which compiles, is among them.
        """
        steps = self.computed_steps
        seconds = self.sums["seconds"]
        first = {name: round(self.sums[name], 3) for name in [_FIRST_CALL] if name in self.sums}
        return first | {
            "seconds": round(seconds, 3),
            "seconds_per_step": round(seconds / steps, 6),
            "patches_per_second": round(steps * global_batch / seconds, 1),
            "data_wait_seconds_per_step": round(self.sums["data_wait_seconds"] / steps, 6),
            "outside_seconds_per_step": round((seconds - self.sums["call_seconds"]) / steps, 6),
        }

    def seconds_by_use(self) -> dict[str, float]:
        """Where the seconds went: by USES, which sum to all of them.

        The sums used: `seconds` in the loop; `before_seconds` of the worker until its loop began;
        `call_seconds` in compiled calls, of which `data_wait_seconds` waited for data (an upper
        bound: on a GPU the host runs ahead, and waits while the GPU computes); `save_seconds` in
        which the training stood still for a save; `startup_seconds` until a phase's first call;
        `first_call_seconds`, `first_wait_seconds` and `first_steps` of first calls. They are the
        first worker's: what it waits for others inside a step is `compute`.

        A first call compiles. What it took longer than its steps take at the pace of the epoch's
        other calls counts as start-up; all of it where the epoch has no other call.
        """
        get = self.sums.get
        waited = min(get("data_wait_seconds", 0), get("call_seconds", 0))
        busy = get("call_seconds", 0) - waited
        first = max(0.0, get("first_call_seconds", 0) - get("first_wait_seconds", 0))
        first_steps = get("first_steps", 0)
        other_steps = self.computed_steps - first_steps
        pace = (busy - first) / other_steps if other_steps > 0 else 0
        compiling = max(0.0, first - pace * first_steps)
        used = {
            "compute": busy - compiling,
            "data_wait": waited,
            "save": get("save_seconds", 0),
            "startup": get("startup_seconds", 0) + compiling,
        }
        total = get("seconds", 0) + get("before_seconds", 0)
        return used | {"other": total - sum(used.values())}


def compute_rates(
    flops: float, uses: Mapping[str, float], *, devices: int, peak: float | None
) -> dict[str, float]:
    """TFLOP/s of a run, and MFU, the share of what its devices can do at most.

    Both are over the seconds of the calls, waits for data included. There are none for an epoch of
    one call, whose seconds are all start-up.

    Args:
        flops: Of an epoch's steps.
        uses: Its `seconds_by_use`.
        devices: How many of them.
        peak: FLOP/s of each; None if it is not known.
    """
    if uses["compute"] <= 0:
        return {}
    rate = flops / (uses["compute"] + uses["data_wait"])
    rates = {"tflops_per_second": round(rate / 1e12, 4)}
    return rates | ({"mfu": round(rate / (devices * peak), 4)} if peak else {})


def percentages(amounts: Sequence[float]) -> list[float]:
    """Shares of a sum in per cent with one decimal, which sum to 100: the last has the rest."""
    total = sum(amounts)
    tenths = [int(1000 * amount / total) if total else 0 for amount in amounts[:-1]]
    return [tenth / 10 for tenth in (*tenths, 1000 - sum(tenths))]
