"""A Ray Train worker: it sets up devices, data and networks, then runs the training loop."""

import time
from typing import Any

import ray.train
import tensorflow as tf
from ray.train.collective import broadcast_from_rank_zero

from data_pipeline.loading.dataset import Batches, check_node_fits
from data_pipeline.loading.patch_set import PatchSet
from data_pipeline.manifest import require_manifest
from data_pipeline.platform.errors import JobFailedError, UserError
from data_pipeline.platform.logs import configure_logging
from data_pipeline.platform.storage import Storage
from srgan.config import Config
from srgan.evaluation.benchmark import data_benchmark
from srgan.generator_file import load_weights
from srgan.network_losses import network_losses
from srgan.run_layout import CONFIG_KEY, INITIAL_KEY
from srgan.training.checkpoint import (
    Checkpoint,
    newest_checkpoint,
    newest_position,
    read_checkpoint,
)
from srgan.training.lease import Lease
from srgan.training.loop import Loop
from srgan.training.phases import plan_phases
from srgan.training.pulse import Pulse
from srgan.training.rehearsal import Rehearsal
from srgan.training.requests import StopRequest, TrainingEnd
from srgan.training.saving import Saver
from srgan.training.state import build_networks, dtype_policy
from srgan.training.strategy import configure_devices, make_strategy
from srgan.training.validation import ValidationImages


def train_worker(
    *,
    config: Config,
    data: Storage,
    run: Storage,
    lease: Lease,
    gpus: int,
    switchboard: Any,
    pulse: Pulse,
    rehearsal: bool = False,
) -> TrainingEnd:
    """Trains from the newest whole checkpoint, or from step 0, to the end or until asked to stop.

    Args:
        config: The experiment.
        data: DATA.
        run: RUN.
        lease: The driver's on RUN.
        gpus: GPUs of this worker to mirror over; 0 for the CPU.
        switchboard: A Switchboard.
        pulse: Tells where this worker is.
        rehearsal: Whether this is a dry run.

    Raises:
        JobFailedError: If a GPU that the run had is not seen any more.
        UserError: If TensorFlow does not see the GPUs, RUN is not seen from this node, DATA does
            not fit it, or the initial generator does not fit the configuration.
        DamagedShardError: If a shard is not what the manifest says.
        DamagedCheckpointError: If every checkpoint is damaged.
        NonFiniteError: Naming the term and the step; the last checkpoint stays.
        LostRunError: If another trainer has taken RUN over.
    """
    began = time.monotonic()
    configure_logging()
    try:
        configure_devices(gpus)
    except UserError as error:
        if newest_position(run):  # the run had GPUs before: a restart may find others
            raise JobFailedError(str(error)) from error
        raise
    context = ray.train.get_context()
    tf.config.experimental.enable_tensor_float_32_execution(config.tf32)
    strategy = make_strategy(context.get_world_size())
    if run.size(CONFIG_KEY) is None:
        raise UserError(
            f"{run.uri}: the driver wrote it, and a worker's node does not see it; choose a --run "
            "that all nodes share: a bucket, or a shared folder"
        )
    stop = StopRequest(switchboard)
    manifest = require_manifest(data)
    check_node_fits(data, manifest, config.batch.shuffle_shards)
    checkpoint = _agreed_checkpoint(run)
    patches = PatchSet(data, manifest)
    batches = Batches(
        patches,
        manifest,
        seed=config.seed,
        global_batch=config.batch.global_batch,
        hr_crop=config.batch.hr_crop,
        permute_colours=config.batch.permute_colours,
        shuffle_shards=config.batch.shuffle_shards,
    )
    saver = None
    if context.get_world_rank() == 0:
        valid = data_benchmark(data.uri, None) if manifest.valid else None
        saver = Saver(
            config,
            run,
            lease,
            scale=manifest.settings.scale,
            step=checkpoint.position.step if checkpoint else 0,
            validation=ValidationImages(valid, config.validation_images) if valid else None,
        )
    with dtype_policy(config.precision):
        with strategy.scope():
            networks = build_networks(config, scale=manifest.settings.scale)
            compare = network_losses(config, run)
        if checkpoint is None and config.initial_generator:
            for network in (networks.generator, networks.average):
                if network:
                    load_weights(network, run, INITIAL_KEY, config.initial_generator)
        loop = Loop(
            config,
            strategy,
            networks,
            compare,
            phases=plan_phases(config.phases, batches.epoch_steps),
            batches=batches,
            patches=patches,
            saver=saver,
            stop=stop,
            gpus=gpus,
            began=began,
            pulse=pulse,
            rehearsal=Rehearsal() if rehearsal else None,
        )
        if checkpoint:
            loop.restore(checkpoint)
        del checkpoint  # as large as the state
        return loop.run()


def _agreed_checkpoint(run: Storage) -> Checkpoint | None:
    """The checkpoint that all workers start from. The first worker chooses it."""
    if ray.train.get_context().get_world_rank() == 0:
        chosen = newest_checkpoint(run)
        broadcast_from_rank_zero(chosen and chosen.name)
        return chosen
    name = broadcast_from_rank_zero(None)
    return read_checkpoint(run, name) if name else None
