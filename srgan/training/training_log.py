"""The lines that the first worker writes into the job's log."""

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

import ray.train
import tensorflow as tf

from data_pipeline.platform.progress import duration
from srgan.config import Config
from srgan.training.phases import Phase
from srgan.training.saving import Saver
from srgan.training.step import shown_terms
from srgan.training.time_left import Stopwatch, TimeLeft
from srgan.training.totals import USES, percentages

_SECONDS_BETWEEN_LINES = 30.0

_log = logging.getLogger(__name__)


class TrainingLog:
    """What a run is, and how far it is. Only the first worker's is shown."""

    def __init__(
        self, phases: Sequence[Phase], flops: Mapping[str, int], saver: Saver | None
    ) -> None:
        """Takes the FLOPs of each phase's step; only the first worker has a `saver`."""
        self._phases, self._saver = phases, saver
        self._stopwatch = Stopwatch(phases, flops, saver.records if saver else [])
        self._last_line = time.monotonic()

    def begin(
        self,
        config: Config,
        strategy: tf.distribute.Strategy,
        *,
        xla: bool,
        patches: int,
        step: int,
    ) -> None:
        """Two lines: devices and batch, epochs and phases."""
        replicas = strategy.num_replicas_in_sync
        global_batch = config.batch.global_batch
        gpus = any("GPU" in device for device in strategy.extended.worker_devices)
        self._show(
            "%s, %d worker(s), each on %s: %d replica(s), %s per replica, global batch %d, %s",
            type(strategy).__name__.replace("CollectiveAllReduce", "MultiWorkerMirrored"),
            ray.train.get_context().get_world_size(),
            ", ".join(device.split("/device:")[1] for device in strategy.extended.worker_devices),
            replicas,
            f"{global_batch / replicas:.4g}",
            global_batch,
            ", ".join(
                [
                    config.precision,
                    *(["TF32"] if gpus and config.tf32 and config.precision == "float32" else []),
                    *(["XLA"] if xla else []),
                ]
            ),
        )
        self._show(
            "epoch = %d patches / %d = %d steps; %s; starting at step %d",
            patches,
            global_batch,
            self._phases[0].epoch_steps,
            ", ".join(f"{phase.epochs} epochs of {phase.name}" for phase in self._phases),
            step,
        )

    def restore(self, sums: Mapping[str, float]) -> None:
        """The current epoch has these sums of an earlier attempt, whose pace does not count."""
        self._stopwatch.restore(sums)

    def end_epoch(self, phase: Phase, sums: Mapping[str, float]) -> None:
        """An epoch of these sums has ended."""
        self._stopwatch.end_epoch(phase, sums)

    def is_due(self) -> bool:
        """Whether the last line was long ago."""
        return time.monotonic() - self._last_line >= _SECONDS_BETWEEN_LINES

    def progress(
        self,
        phase: Phase,
        epoch: int,
        step: int,
        values: Mapping[str, Any],
        sums: Mapping[str, float],
    ) -> None:
        """One line.

        Args:
            phase: The current one.
            epoch: Of the phase, from 1.
            step: Steps of the run that are done.
            values: Means of the terms over the epoch so far, and `patches_per_second`.
            sums: Of the current epoch.
        """
        if not self._saver:
            return
        left = self._stopwatch.left(phase, step, sums, self._saver.seconds_to_finish())
        self._last_line = time.monotonic()
        self._show(
            "%s epoch %d/%d  step %d/%d  %s  %.0f patches/s  %s",
            phase.name,
            epoch,
            phase.epochs,
            step,
            self._phases[-1].stop,
            "  ".join(
                f"{name} {values[name]:.5f}"
                for name in shown_terms(phase.config.losses)
                if name in values
            ),
            values["patches_per_second"],
            _describe(left),
        )

    def uses(
        self, phase: Phase, epoch: int, seconds: Mapping[str, float], rates: Mapping[str, float]
    ) -> None:
        """Where an epoch's seconds went: `seconds_by_use`, as shares that sum to 100 %.

        Args:
            phase: The epoch's.
            epoch: Its number in the phase, from 1.
            seconds: By use.
            rates: What `compute_rates` gives.
        """
        shares = zip(USES.values(), percentages([seconds[use] for use in USES]), strict=True)
        self._show(
            "%s epoch %d: %.1f s: %s%s%s",
            phase.name,
            epoch,
            sum(seconds.values()),
            ", ".join(f"{name} {share:.1f} %" for name, share in shares),
            f"; {rates['tflops_per_second']:.3g} TFLOP/s" if "tflops_per_second" in rates else "",
            f", MFU {100 * rates['mfu']:.1f} %" if "mfu" in rates else "",
        )

    def skipped(self, step: int, name: str, value: float, *, count: int, allowed: int) -> None:
        """A step was left out."""
        text = "%s is %s at step %d: left out, %d of %d"
        self._show(text, name, value, step, count, allowed, level=logging.WARNING)

    def _show(self, line: str, *values: Any, level: int = logging.INFO) -> None:
        if self._saver:
            _log.log(level, line, *values)


def _describe(left: TimeLeft | None) -> str:
    if left is None:
        return "time left not known yet"
    if not left.estimated:
        return f"{duration(left.seconds)} left"
    return f"about {duration(left.seconds)} left ({', '.join(left.estimated)}: an estimate)"
