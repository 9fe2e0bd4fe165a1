"""Sums over the steps of an epoch, and what follows from them. Pure."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt


class EpochTotals:
    """Sums over the steps of an epoch. A checkpoint holds the sums of an unfinished epoch."""

    def __init__(self, sums: Mapping[str, float] | None = None) -> None:
        """Begins an epoch, or goes on with one from its `sums`."""
        self.sums: dict[str, float] = dict(sums or {})

    def add_steps(self, names: Sequence[str], rows: npt.NDArray[np.float64]) -> None:
        """Adds steps.

        Args:
            names: The terms.
            rows: [steps, terms], all finite.
        """
        self.add(steps=len(rows))
        self.add(**dict(zip(names, rows.sum(axis=0).tolist(), strict=True)))

    def add(self, **amounts: float) -> None:
        """Adds to sums by name."""
        for name, amount in amounts.items():
            self.sums[name] = self.sums.get(name, 0) + amount

    def means(self, names: Sequence[str]) -> dict[str, float]:
        """Means over the steps."""
        steps = self.sums.get("steps", 0)
        return {name: self.sums[name] / steps for name in names} if steps else {}

    def speed(self, global_batch: int) -> dict[str, float]:
        """Seconds and rates of the steps so far, as metrics.jsonl has them."""
        steps = max(self.sums["steps"], 1)
        seconds = self.sums["seconds"]
        return {
            "seconds": round(seconds, 3),
            "seconds_per_step": round(seconds / steps, 6),
            "patches_per_second": round(steps * global_batch / seconds, 1),
            "data_wait_seconds_per_step": round(self.sums["data_wait_seconds"] / steps, 6),
            "outside_seconds_per_step": round((seconds - self.sums["call_seconds"]) / steps, 6),
            "save_seconds": round(self.sums.get("save_seconds", 0), 4),
        }
