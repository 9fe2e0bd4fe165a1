"""The training loop that every Ray Train worker runs."""

import logging
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import ray.train
import tensorflow as tf

from data_pipeline.dataset import Batches, check_node_fits
from data_pipeline.logs import configure_logging
from data_pipeline.manifest import Manifest, require_manifest
from data_pipeline.patch_set import PatchSet
from data_pipeline.progress import duration
from data_pipeline.sampling import steps_per_epoch
from data_pipeline.storage import Storage, open_storage
from srgan.config import Config, needed_extractors, parse_config
from srgan.run_layout import generator_key, phase_generator_key, samples_key
from srgan.training.checkpoint import checkpoint_step, read_checkpoint, write_checkpoint
from srgan.training.metrics_log import MetricsLog
from srgan.training.phases import Phase, phase_of, plan_phases
from srgan.training.samples import sample_pairs, write_sample_grid
from srgan.training.step import (
    CallResult,
    TrainCall,
    TrainState,
    begin_phase,
    build_networks,
    make_train_call,
    shown_terms,
)
from srgan.training.strategy import configure_devices, mirrored_strategy
from srgan.upscale import save_generator
from srgan.vgg import FeatureExtractor
from srgan.vgg_weights import read_vgg_weights

_log = logging.getLogger(__name__)


class NonFiniteLossError(Exception):
    """A loss term is infinite or not a number."""


def train_worker(*, config_text: str, data_uri: str, run_uri: str, gpus: int) -> None:
    """Trains from the last checkpoint, or from step 0, to the end of the last phase.

    Args:
        config_text: The configuration as YAML.
        data_uri: DATA.
        run_uri: RUN.
        gpus: GPUs to mirror over; 0 for the CPU.

    Raises:
        DamagedShardError: If a shard is not what the manifest says.
        DamagedCheckpointError: If the last checkpoint is not what was written.
        NonFiniteLossError: Naming the term and the steps; the last checkpoint stays.
    """
    configure_logging()
    configure_devices(gpus)
    config = parse_config(config_text, "config")
    data = open_storage(data_uri)
    manifest = require_manifest(data)
    check_node_fits(data, manifest, config.batch.shuffle_shards)
    _Worker(config, data, manifest, open_storage(run_uri)).train()


class _Worker:
    """What the phases of a run share in a worker process."""

    def __init__(self, config: Config, data: Storage, manifest: Manifest, run: Storage) -> None:
        self._config, self._run = config, run
        self._patches = PatchSet(data, manifest)
        self._batches = Batches(
            self._patches,
            manifest,
            seed=config.seed,
            global_batch=config.batch.global_batch,
            hr_crop=config.batch.hr_crop,
            permute_colours=config.batch.permute_colours,
            shuffle_shards=config.batch.shuffle_shards,
        )
        self._epoch_steps = steps_per_epoch(len(self._patches), config.batch.global_batch)
        self._phases = plan_phases(config.phases, self._epoch_steps)
        self._strategy = mirrored_strategy()
        with self._strategy.scope():
            self._networks = build_networks(config, scale=manifest.settings.scale)
            self._extractors = self._build_extractors()
        self._pairs = sample_pairs(data, manifest)

    def _build_extractors(self) -> dict[str, FeatureExtractor]:
        names = needed_extractors(self._config)
        weights = read_vgg_weights(self._run) if names else {}
        return {name: FeatureExtractor(name, weights) for name in names}

    def train(self) -> None:
        """Trains the phases that are not done."""
        with _last_checkpoint() as folder:
            step = checkpoint_step(folder) if folder else 0
            current = phase_of(self._phases, step)
            state = self._begin(current)
            if folder:
                read_checkpoint(folder, state)
        self._log_begin(step)
        metrics = MetricsLog(self._run, step=step)
        clock = _Clock(step, self._phases[-1].stop)
        for phase in self._phases[self._phases.index(current) :]:
            if phase != current:
                state = self._begin(phase)
            if step < phase.stop:  # else the checkpoint is of the phase's end
                self._train_phase(phase, state, step, metrics, clock)
                step = phase.stop

    def _begin(self, phase: Phase) -> TrainState:
        with self._strategy.scope():
            return begin_phase(self._networks, phase.config, steps=phase.steps)

    def _log_begin(self, step: int) -> None:
        replicas = self._strategy.num_replicas_in_sync
        global_batch = self._config.batch.global_batch
        devices = self._strategy.extended.worker_devices
        _log.info(
            "MirroredStrategy on %s: %d replica(s), %d per replica, global batch %d, %s",
            ", ".join(device.removeprefix("/job:localhost") for device in devices),
            replicas,
            global_batch // replicas,
            global_batch,
            self._config.precision,
        )
        _log.info(
            "epoch = %d patches / %d = %d steps; %s; starting at step %d",
            len(self._patches),
            global_batch,
            self._epoch_steps,
            ", ".join(f"{phase.epochs} epochs of {phase.name}" for phase in self._phases),
            step,
        )

    def _train_phase(
        self, phase: Phase, state: TrainState, step: int, metrics: MetricsLog, clock: "_Clock"
    ) -> None:
        iterator = iter(self._distributed_batches(step, phase.stop))
        train_call = make_train_call(
            self._strategy,
            state,
            phase.config.losses,
            global_batch=self._config.batch.global_batch,
            extractors=self._extractors,
        )
        for epoch in range(phase.next_epoch(step), phase.epochs + 1):
            stop = phase.epoch_stop(epoch)
            means = self._train_epoch(phase, train_call, iterator, step, stop)
            step = stop
            rate = float(state.generator_optimizer.learning_rate)
            record: dict[str, Any] = {
                "phase": phase.name,
                "epoch": epoch,
                "step": step,
                "learning_rate": rate,
            }
            record |= means
            self._save_generator_and_picture(phase, state, epoch)
            _wait_for_commits()
            metrics.append(record)
            _report(state, step, record)
            _log.info(
                "%s epoch %d/%d  step %d/%d  %s  %.0f patches/s  %s left",
                phase.name,
                epoch,
                phase.epochs,
                step,
                self._phases[-1].stop,
                "  ".join(f"{name} {means[name]:.5f}" for name in shown_terms(phase.config.losses)),
                means["patches_per_second"],
                clock.left(step),
            )

    def _train_epoch(
        self, phase: Phase, train_call: TrainCall, iterator: Iterator[Any], step: int, stop: int
    ) -> dict[str, float]:
        """Trains up to a step; the means of what was measured."""
        start, first = time.monotonic(), step
        totals: defaultdict[str, float] = defaultdict(float)
        while step < stop:
            count = min(self._config.steps_per_call, stop - step)
            result = _call(train_call, iterator, count, self._patches)
            step += count
            terms = {name: float(value) for name, value in result.terms.items()}
            for name, value in terms.items():
                if not np.isfinite(value):
                    raise NonFiniteLossError(
                        f"{name} is {value} within steps {step - count} to {step}; the last "
                        f"checkpoint is kept: lower phases.{phase.name}.learning_rate.initial"
                    )
                totals[name] += value * count
            totals["data_wait_seconds_per_step"] += float(result.data_wait)
        seconds = time.monotonic() - start
        means = {name: total / (stop - first) for name, total in totals.items()}
        patches = (stop - first) * self._config.batch.global_batch
        return means | {
            "seconds": round(seconds, 3),
            "patches_per_second": round(patches / seconds, 1),
        }

    def _save_generator_and_picture(self, phase: Phase, state: TrainState, epoch: int) -> None:
        if phase.is_last:
            save_generator(state.generator, self._run, generator_key(epoch))
        elif epoch == phase.epochs:
            save_generator(state.generator, self._run, phase_generator_key(phase.name))
        if self._pairs:
            key = samples_key(epoch, None if phase.is_last else phase.name)
            write_sample_grid(state.generator, self._pairs, self._run, key)

    def _distributed_batches(self, start: int, stop: int) -> tf.distribute.DistributedDataset:
        def dataset(context: tf.distribute.InputContext) -> tf.data.Dataset:
            local = context.num_replicas_in_sync // context.num_input_pipelines
            first = context.input_pipeline_id * local
            return self._batches.dataset(
                start=start,
                stop=stop,
                replicas=range(first, first + local),
                num_replicas=context.num_replicas_in_sync,
            )

        return self._strategy.distribute_datasets_from_function(dataset)


class _Clock:
    """Tells how long the rest of a run takes, from the steps that this process made."""

    def __init__(self, step: int, stop: int) -> None:
        self._start, self._first, self._stop = time.monotonic(), step, stop

    def left(self, step: int) -> str:
        """After `step` steps of the run."""
        rate = (step - self._first) / (time.monotonic() - self._start)
        return duration((self._stop - step) / rate)


@contextmanager
def _last_checkpoint() -> Iterator[Path | None]:
    """A folder with the last checkpoint that Ray Train knows of."""
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        yield None
        return
    with checkpoint.as_directory() as folder:
        yield Path(folder)


def _call(
    train_call: TrainCall, iterator: Iterator[Any], count: int, patches: PatchSet
) -> CallResult:
    try:
        return train_call(iterator, tf.constant(count))
    except tf.errors.OpError:
        if patches.failure:  # TensorFlow would bury it in a traceback of its own
            raise patches.failure from None
        raise


def _wait_for_commits() -> None:
    """Waits until Ray Train has noted the checkpoints reported so far.

    It does so in the background, seconds after `report` returns; without this wait a kill could
    cost more than the epoch in hand.
    """
    ray.train.get_all_reported_checkpoints(
        consistency_mode=ray.train.CheckpointConsistencyMode.COMMITTED
    )


def _report(state: TrainState, step: int, record: dict[str, Any]) -> None:
    """Hands a checkpoint to Ray Train, which stores it before this returns."""
    with tempfile.TemporaryDirectory() as folder:
        write_checkpoint(Path(folder), state, step=step)
        ray.train.report(record, checkpoint=ray.train.Checkpoint.from_directory(folder))
