"""What the first worker leaves in RUN, written beside the training."""

import logging
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from data_pipeline.images import encode_png
from data_pipeline.platform.storage import Storage
from srgan.config import Config, Precision
from srgan.generator_file import save_generator
from srgan.metrics_log import MetricsLog
from srgan.networks import generator
from srgan.run_layout import generator_key, phase_generator_key, samples_key
from srgan.training.checkpoint import Arrays, Position, prune_checkpoints, write_checkpoint
from srgan.training.lease import Lease
from srgan.training.phases import Phase
from srgan.training.state import dtype_policy
from srgan.training.tensorboard import write_tensorboard
from srgan.training.validation import Validation

_log = logging.getLogger(__name__)


class FinishedEpoch(NamedTuple):
    """An epoch whose generator, picture and line in the log are due.

    Attributes:
        phase: Its phase.
        epoch: Its number in the phase, from 1.
        record: What was measured.
    """

    phase: Phase
    epoch: int
    record: dict[str, Any]


class Saver:
    """Saves a run's state, and before it what an epoch leaves.

    The state is copied while the training stands still. A thread does the rest, on the CPU, while
    the training goes on. There is one save at a time: the next one waits for it.
    """

    def __init__(
        self,
        config: Config,
        run: Storage,
        lease: Lease,
        *,
        scale: int,
        step: int,
        validation: Validation | None,
    ) -> None:
        """Opens the run as it was after `step` steps."""
        self._config, self._run, self._lease = config, run, lease
        self._validation = validation
        self._metrics = MetricsLog(run, step=step)
        # A generator of this thread's own. It computes as its variables are stored: half
        # precision is slow on many CPUs.
        whole: Precision = "float64" if config.precision == "float64" else "float32"
        with tf.device("CPU"), dtype_policy(whole):
            self._generator = generator(scale=scale, **config.generator.model_dump())
        self._thread = ThreadPoolExecutor(1, "save")
        self._save: Future[None] | None = None

    def save(self, arrays: Arrays, position: Position, epoch: FinishedEpoch | None) -> None:
        """Begins to save.

        Args:
            arrays: The state; not to be changed afterwards.
            position: Where the run is.
            epoch: The epoch that ends here, if one does.

        Raises:
            Exception: What went wrong with the save before this one.
        """
        self.wait()
        self._save = self._thread.submit(self._write, arrays, position, epoch)

    def wait(self) -> None:
        """Waits for the save that was begun. Raises what went wrong with it."""
        if self._save:
            self._save.result()

    def wait_after(self, failure: BaseException) -> None:
        """Waits after a failure of the training. A failed save is only logged: it tells less."""
        try:
            self.wait()
        except Exception as error:
            if error is not failure:
                _log.warning("the last save failed, too: %s", error)

    def _write(self, arrays: Arrays, position: Position, epoch: FinishedEpoch | None) -> None:
        self._lease.check()
        if epoch:  # first, since a run that goes on from the checkpoint does not make it again
            self._write_epoch(epoch, arrays)
            self._lease.check()  # validation took a while
        name = write_checkpoint(self._run, arrays, position)
        self._lease.check()
        prune_checkpoints(self._run, newest=name, keep=self._config.checkpoints.keep)

    def _write_epoch(self, epoch: FinishedEpoch, arrays: Arrays) -> None:
        phase, number, record = epoch
        shown = self._shown_generator(arrays)
        if phase.is_last:
            save_generator(shown, self._run, generator_key(number))
        elif number == phase.epochs:
            save_generator(shown, self._run, phase_generator_key(phase.name))
        if self._validation:
            with tf.device("CPU"):
                scores, picture = self._validation.examine(shown)
            record = record | scores
            if picture is not None:
                key = samples_key(number, None if phase.is_last else phase.name)
                self._run.write(key, encode_png(picture))
            if scores:
                _log.info(
                    "%s epoch %d: validation PSNR %.2f dB (Y %.2f), bicubic %.2f (%.2f)",
                    phase.name,
                    number,
                    *(
                        scores[f"{method}_psnr_{space}"]
                        for method in ("validation", "bicubic")
                        for space in ("rgb", "y")
                    ),
                )
        self._metrics.append(record)
        write_tensorboard(record, self._run)

    def _shown_generator(self, arrays: Arrays) -> keras.Model:
        """The generator with the weights that the run leaves."""
        part = "average" if self._config.generator_average else "generator"
        for number, variable in enumerate(self._generator.variables):
            variable.assign(arrays[f"{part}/{number:04}"])
        return self._generator
