"""The training loop that every Ray Train worker runs."""

import logging
import tempfile
import time
from collections.abc import Iterator
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
from data_pipeline.storage import open_storage
from srgan.config import Config, parse_config
from srgan.training.checkpoint import read_checkpoint, write_checkpoint
from srgan.training.metrics_log import MetricsLog
from srgan.training.samples import sample_pairs, write_sample_grid
from srgan.training.step import (
    CallResult,
    TrainCall,
    TrainState,
    build_state,
    make_train_call,
)
from srgan.training.strategy import configure_devices, mirrored_strategy
from srgan.upscale import save_generator

_log = logging.getLogger(__name__)


class NonFiniteLossError(Exception):
    """The loss is infinite or not a number."""


def train_worker(*, config_text: str, data_uri: str, run_uri: str, gpus: int) -> None:
    """Trains from the last checkpoint, or from step 0, to the last epoch.

    Args:
        config_text: The configuration as YAML.
        data_uri: DATA.
        run_uri: RUN.
        gpus: GPUs to mirror over; 0 for the CPU.

    Raises:
        DamagedShardError: If a shard is not what the manifest says.
        DamagedCheckpointError: If the last checkpoint is not what was written.
        NonFiniteLossError: Naming the steps; the last checkpoint stays.
    """
    configure_logging()
    configure_devices(gpus)
    config = parse_config(config_text, "config")
    data = open_storage(data_uri)
    manifest = require_manifest(data)
    check_node_fits(data, manifest, config.batch.shuffle_shards)
    patches = PatchSet(data, manifest)
    epoch_steps = steps_per_epoch(len(patches), config.batch.global_batch)
    total_steps = config.pretrain.epochs * epoch_steps
    strategy = mirrored_strategy()
    with strategy.scope():
        state = build_state(config, scale=manifest.settings.scale, total_steps=total_steps)
    step = _restore(state)
    replicas = strategy.num_replicas_in_sync
    _log.info(
        "MirroredStrategy on %s: %d replica(s), %d per replica, global batch %d, %s",
        ", ".join(device.removeprefix("/job:localhost") for device in _devices(strategy)),
        replicas,
        config.batch.global_batch // replicas,
        config.batch.global_batch,
        config.precision,
    )
    _log.info(
        "epoch = %d patches / %d = %d steps; %d epochs; starting at step %d (epoch %d)",
        len(patches),
        config.batch.global_batch,
        epoch_steps,
        config.pretrain.epochs,
        step,
        step // epoch_steps + 1,
    )
    iterator = iter(
        _distributed_batches(
            config=config,
            manifest=manifest,
            patches=patches,
            strategy=strategy,
            start=step,
            stop=total_steps,
        )
    )
    train_call = make_train_call(strategy, state, global_batch=config.batch.global_batch)
    run = open_storage(run_uri)
    metrics = MetricsLog(run, step=step)
    pairs = sample_pairs(data, manifest)
    start, first_step = time.monotonic(), step
    for epoch in range(step // epoch_steps + 1, config.pretrain.epochs + 1):
        epoch_start = time.monotonic()
        losses, weights, data_wait = [], [], 0.0
        while step < epoch * epoch_steps:
            count = min(config.steps_per_call, epoch * epoch_steps - step)
            result = _call(train_call, iterator, count, patches)
            losses.append(float(result.loss))
            weights.append(count)
            data_wait += float(result.data_wait)
            step += count
            if not np.isfinite(losses[-1]):
                raise NonFiniteLossError(
                    f"the MSE loss is {losses[-1]} within steps {step - count} to {step}; "
                    "the last checkpoint is kept: lower pretrain.learning_rate.initial"
                )
        seconds = time.monotonic() - epoch_start
        record = {
            "epoch": epoch,
            "step": step,
            "mse": float(np.average(losses, weights=weights)),
            "learning_rate": float(state.optimizer.learning_rate),
            "seconds": round(seconds, 3),
            "data_wait_seconds_per_step": round(data_wait / sum(weights), 6),
            "patches_per_second": round(epoch_steps * config.batch.global_batch / seconds, 1),
        }
        save_generator(state.generator, run, epoch)
        if pairs:
            write_sample_grid(state.generator, pairs, run, epoch)
        _wait_for_commits()
        metrics.append(record)
        _report(state, step, record)
        left = (time.monotonic() - start) / (step - first_step) * (total_steps - step)
        _log.info(
            "epoch %d/%d  step %d/%d  mse %.5f  %.0f patches/s  %s left",
            epoch,
            config.pretrain.epochs,
            step,
            total_steps,
            record["mse"],
            record["patches_per_second"],
            duration(left),
        )


def _call(
    train_call: TrainCall, iterator: Iterator[Any], count: int, patches: PatchSet
) -> CallResult:
    try:
        return train_call(iterator, tf.constant(count))
    except tf.errors.OpError:
        if patches.failure:  # TensorFlow would bury it in a traceback of its own
            raise patches.failure from None
        raise


def _devices(strategy: tf.distribute.Strategy) -> tuple[str, ...]:
    return tuple(strategy.extended.worker_devices)


def _restore(state: TrainState) -> int:
    """Restores the last checkpoint that Ray Train knows of; returns its step, or 0."""
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        return 0
    with checkpoint.as_directory() as folder:
        return read_checkpoint(Path(folder), state)


def _wait_for_commits() -> None:
    """Waits until Ray Train has noted the checkpoints reported so far.

    It does so in the background, seconds after `report` returns; without this wait a kill could
    cost more than the epoch in hand.
    """
    ray.train.get_all_reported_checkpoints(
        consistency_mode=ray.train.CheckpointConsistencyMode.COMMITTED
    )


def _report(state: TrainState, step: int, record: dict[str, float | int]) -> None:
    """Hands a checkpoint to Ray Train, which stores it before this returns."""
    with tempfile.TemporaryDirectory() as folder:
        write_checkpoint(Path(folder), state, step=step)
        ray.train.report(record, checkpoint=ray.train.Checkpoint.from_directory(folder))


def _distributed_batches(
    *,
    config: Config,
    manifest: Manifest,
    patches: PatchSet,
    strategy: tf.distribute.Strategy,
    start: int,
    stop: int,
) -> tf.distribute.DistributedDataset:
    batches = Batches(
        patches,
        manifest,
        seed=config.seed,
        global_batch=config.batch.global_batch,
        hr_crop=config.batch.hr_crop,
        permute_colours=config.batch.permute_colours,
        shuffle_shards=config.batch.shuffle_shards,
    )

    def dataset(context: tf.distribute.InputContext) -> tf.data.Dataset:
        local = context.num_replicas_in_sync // context.num_input_pipelines
        first = context.input_pipeline_id * local
        return batches.dataset(
            start=start,
            stop=stop,
            replicas=range(first, first + local),
            num_replicas=context.num_replicas_in_sync,
        )

    return strategy.distribute_datasets_from_function(dataset)
