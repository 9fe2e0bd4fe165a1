"""What the first worker leaves in RUN, written beside the training."""

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import tensorflow as tf

from data_pipeline.platform.storage import Storage
from srgan.config import Config, Precision
from srgan.generator_file import save_generator
from srgan.metrics_log import MetricsLog
from srgan.networks import generator
from srgan.run_layout import generator_key, phase_generator_key, tensorboard_key
from srgan.training.checkpoint import Arrays, Position, prune_checkpoints, write_checkpoint
from srgan.training.lease import Lease
from srgan.training.state import dtype_policy
from srgan.training.tensorboard import write_tensorboard
from srgan.training.totals import FinishedEpoch
from srgan.training.validation import ValidationImages, Validator, Weights

_MOST_SAVES = 2

_log = logging.getLogger(__name__)


class Saver:
    """Saves a run's state, and before it what an epoch leaves.

    The state is copied while the training stands still. A thread does the rest, on the CPU, while
    the training goes on. One save is written and one more may wait, so there are at most two
    copies of the state. The training stands still for longer than a copy only if it comes to a
    third save before the first is written: until that is written. So it waits no more than a save
    takes longer than the training between two saves.
    """

    def __init__(
        self,
        config: Config,
        run: Storage,
        lease: Lease,
        *,
        scale: int,
        step: int,
        validation: ValidationImages | None,
    ) -> None:
        """Opens the run as it was after `step` steps."""
        self._config, self._run, self._lease = config, run, lease
        self._metrics = MetricsLog(run, step=step)
        self.records = self._metrics.records  # of earlier attempts
        self._write_seconds = 0.0
        # A generator of this thread's own. It computes as its variables are stored: half
        # precision is slow on many CPUs, and evaluation does not use it.
        whole: Precision = "float64" if config.precision == "float64" else "float32"
        with tf.device("CPU"), dtype_policy(whole):
            self._generator = generator(scale=scale, **config.generator.model_dump())
        self._validator: Validator | None = None
        if validation:
            device = "GPU:0" if tf.config.list_logical_devices("GPU") else "CPU:0"
            self._validator = Validator(
                validation, self._generator, device, run=run, lease=lease, metrics=self._metrics
            )
        self._thread = ThreadPoolExecutor(1, "save")
        self._saves: list[Future[None]] = []  # those that may be unfinished, in their order

    def save(
        self, state: Callable[[], Arrays], position: Position, epoch: FinishedEpoch | None
    ) -> None:
        """Begins to save.

        Args:
            state: Copies the state.
            position: Where the run is.
            epoch: The epoch that ends here, if one does.

        Raises:
            Exception: What went wrong with a save before this one; nothing is saved after it.
        """
        while self._saves and (self._saves[0].done() or len(self._saves) == _MOST_SAVES):
            self._saves.pop(0).result()
        before = self._saves[-1] if self._saves else None
        self._saves.append(self._thread.submit(self._write, before, state(), position, epoch))

    def seconds_to_finish(self) -> float:
        """What `finish` takes at the run's end, by the last save and the last validation.

        A validation that takes longer than an epoch still runs when the last epoch ends. It is
        half done then, on average.
        """
        for record in reversed(self._metrics.records):
            if "validation_seconds" in record:
                one = record["validation_seconds"]
                is_late = one > record.get("seconds", one)
                return float(self._write_seconds + one * (1.5 if is_late else 1))
        return self._write_seconds

    def finish(self, *, is_run_end: bool) -> None:
        """Waits for the saves and the validation that were begun. Raises what went wrong.

        At the run's end the last epoch is validated in any case.
        """
        self._finish_saves()
        if self._validator:
            self._validator.finish(is_run_end=is_run_end)

    def finish_after(self, failure: BaseException) -> None:
        """Waits for saves after a failure of the training; nothing is written afterwards.

        A failed save is only logged: it tells less.
        """
        try:
            self._finish_saves()
        except Exception as error:
            if error is not failure:
                _log.warning("the last save failed, too: %s", error)
        if self._validator:
            self._validator.give_up()

    def _finish_saves(self) -> None:
        for save in self._saves:
            save.result()

    def _write(
        self,
        before: Future[None] | None,
        arrays: Arrays,
        position: Position,
        epoch: FinishedEpoch | None,
    ) -> None:
        if before:
            before.result()  # a failure: a run must not go on from after what was not saved
        self._lease.check()
        began = time.monotonic()
        if epoch:  # first, since a run that goes on from the checkpoint does not make it again
            self._write_epoch(epoch, arrays)
        name = write_checkpoint(self._run, arrays, position)
        self._lease.check()
        prune_checkpoints(self._run, newest=name, keep=self._config.checkpoints.keep)
        self._write_seconds = time.monotonic() - began
        if epoch and self._validator:
            self._validator.begin(epoch, self._shown_weights(arrays))

    def _write_epoch(self, epoch: FinishedEpoch, arrays: Arrays) -> None:
        phase, number, record = epoch
        for variable, value in zip(
            self._generator.variables, self._shown_weights(arrays), strict=True
        ):
            variable.assign(value)
        if phase.is_last:
            save_generator(self._generator, self._run, generator_key(number))
        elif number == phase.epochs:
            save_generator(self._generator, self._run, phase_generator_key(phase.name))
        self._metrics.append(record)
        write_tensorboard(record, self._run, tensorboard_key(record["step"]), group="training")

    def _shown_weights(self, arrays: Arrays) -> Weights:
        """Those of the generator that the run leaves."""
        part = "average" if self._config.generator_average else "generator"
        return [arrays[f"{part}/{number:04}"] for number in range(len(self._generator.variables))]
