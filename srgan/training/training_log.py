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
from srgan.training.step import shown_terms
from srgan.training.totals import USES, percentages

_SECONDS_BETWEEN_LINES = 30.0

_log = logging.getLogger(__name__)


class TrainingLog:
    """What a run is, and how far it is. Only the first worker's is shown."""

    def __init__(self, phases: Sequence[Phase], *, is_shown: bool) -> None:
        self._phases, self._is_shown = phases, is_shown
        self._first_step, self._begun = 0, time.monotonic()
        self._last_line = self._begun

    def begin(
        self,
        config: Config,
        strategy: tf.distribute.Strategy,
        *,
        xla: bool,
        patches: int,
        step: int,
    ) -> None:
        """Two lines: devices and batch, epochs and phases. The time left counts from `step` on."""
        self._first_step, self._begun = step, time.monotonic()
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

    def is_due(self) -> bool:
        """Whether the last line was long ago."""
        return time.monotonic() - self._last_line >= _SECONDS_BETWEEN_LINES

    def progress(self, phase: Phase, epoch: int, step: int, values: Mapping[str, Any]) -> None:
        """One line.

        Args:
            phase: The current one.
            epoch: Of the phase, from 1.
            step: Steps of the run that are done.
            values: Means of the terms over the epoch so far, and `patches_per_second`.
        """
        self._last_line = time.monotonic()
        stop = self._phases[-1].stop
        left = (self._last_line - self._begun) / max(1, step - self._first_step) * (stop - step)
        self._show(
            "%s epoch %d/%d  step %d/%d  %s  %.0f patches/s  %s left",
            phase.name,
            epoch,
            phase.epochs,
            step,
            stop,
            "  ".join(
                f"{name} {values[name]:.5f}"
                for name in shown_terms(phase.config.losses)
                if name in values
            ),
            values["patches_per_second"],
            duration(left),
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
        if self._is_shown:
            _log.log(level, line, *values)
