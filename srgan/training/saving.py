"""What the first worker leaves in RUN, written beside the training."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import keras
import ray.train
import tensorflow as tf

from data_pipeline.images import encode_png
from data_pipeline.platform.storage import Storage
from srgan.config import Config, dump_config
from srgan.metrics_log import MetricsLog
from srgan.networks import generator
from srgan.run_layout import generator_key, phase_generator_key, samples_key
from srgan.training.checkpoint import Arrays, Position, write_checkpoint
from srgan.training.phases import Phase
from srgan.training.tensorboard import write_tensorboard
from srgan.training.validation import Validation
from srgan.upscale import save_generator

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

    The state is copied while the training stands still; the rest is done by Ray Train's upload
    thread, on the CPU, while it goes on. One save at a time: the next one waits for it.
    """

    def __init__(
        self,
        config: Config,
        run: Storage,
        *,
        scale: int,
        step: int,
        validation: Validation | None,
    ) -> None:
        """Opens the run as it was after `step` steps."""
        self._config, self._run, self._validation = config, run, validation
        self._metrics = MetricsLog(run, step=step)
        with tf.device("CPU"), _whole_precision():
            self._generator = generator(scale=scale, **config.generator.model_dump())
        self._idle = threading.Event()
        self._idle.set()
        self._error: Exception | None = None

    def save(self, arrays: Arrays, position: Position, epoch: FinishedEpoch | None) -> None:
        """Begins to save; the other workers call `report_without_saving` at the same time.

        Args:
            arrays: The state; not to be changed afterwards.
            position: Where the run is.
            epoch: The epoch that ends here, if one does.

        Raises:
            Exception: What went wrong with the save before this one.
        """
        self._idle.wait()
        if self._error:
            raise self._error
        self._idle.clear()
        storage = ray.train.get_context().get_storage()
        name = f"{position.step:09}-{time.time_ns()}"
        checkpoint = ray.train.Checkpoint(
            f"{storage.experiment_fs_path}/{name}", filesystem=storage.storage_filesystem
        )

        def upload(*_: Any) -> ray.train.Checkpoint:
            try:
                self._write(name, arrays, position, epoch)
            except Exception as error:
                self._error = error
                raise
            finally:
                self._idle.set()
            return checkpoint

        _report({"step": position.step}, checkpoint, name, upload)

    def _write(
        self, name: str, arrays: Arrays, position: Position, epoch: FinishedEpoch | None
    ) -> None:
        if epoch:  # first, since a run that goes on from the checkpoint does not make it again
            self._write_epoch(epoch, arrays)
        write_checkpoint(
            self._run,
            name,
            arrays,
            position,
            config=dump_config(self._config),
            seed=self._config.seed,
        )

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
        """A generator of the upload thread's own, with the weights that the run leaves."""
        part = "average" if self._config.generator_average else "generator"
        for number, variable in enumerate(self._generator.variables):
            variable.assign(arrays[f"{part}/{number:04}"])
        return self._generator


@contextmanager
def _whole_precision() -> Iterator[None]:
    """Networks of the block compute as their variables are stored: half is slow on many CPUs."""
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy.variable_dtype)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(policy)


def report_without_saving(step: int) -> None:
    """Takes part in a save by the first worker: Ray Train waits for every worker's report."""
    _report({"step": step}, None, None, None)


def wait_for_saves() -> None:
    """Waits until Ray Train knows of everything that was reported."""
    ray.train.get_all_reported_checkpoints(
        consistency_mode=ray.train.CheckpointConsistencyMode.COMMITTED
    )


def _report(
    metrics: dict[str, Any],
    checkpoint: ray.train.Checkpoint | None,
    name: str | None,
    upload: Callable[..., ray.train.Checkpoint] | None,
) -> None:
    ray.train.report(
        metrics,
        checkpoint=checkpoint,
        checkpoint_dir_name=name,
        checkpoint_upload_mode=ray.train.CheckpointUploadMode.ASYNC,
        delete_local_checkpoint_after_upload=False,
        checkpoint_upload_fn=upload,
    )
