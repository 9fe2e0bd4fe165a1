"""Training without Ray, for tests: in this process, or as a process of its own."""

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf

from data_pipeline.dataset import Batches
from data_pipeline.manifest import require_manifest
from data_pipeline.patch_set import PatchSet
from data_pipeline.storage import open_storage
from srgan.config import Config, parse_config
from srgan.training.checkpoint import (
    checkpoint_step,
    read_checkpoint,
    state_arrays,
    write_checkpoint,
)
from srgan.training.step import TrainState, begin_phase, build_networks, make_train_call

TOTAL_STEPS = 14

CONFIG = """
seed: 4
precision: {precision}
generator: {{blocks: 1, filters: 8, batch_norm: {batch_norm}}}
batch: {{global_batch: 8, hr_crop: 32}}
discriminator: {{filters: 4, dense: 8, batch_norm: {batch_norm}}}
phases:
  pretrain:
    epochs: 1
    losses: {{mse: 1}}
    learning_rate: {{initial: 1e-3, decay: cosine}}
  gan:
    epochs: 1
    losses: {{mse: 1, adversarial: 1e-1, total_variation: 1e-2}}
    learning_rate: {{initial: 1e-3, decay: drop}}
"""


def config(precision: str, batch_norm: str) -> Config:
    return parse_config(CONFIG.format(precision=precision, batch_norm=batch_norm), "test")


class Session:
    """One process's training: a strategy over CPU devices, a phase's state, and steps."""

    def __init__(self, data, config: Config, replicas: int, phase: str = "pretrain"):
        storage = open_storage(str(data))
        manifest = require_manifest(storage)
        self.batches = Batches(
            PatchSet(storage, manifest),
            manifest,
            seed=config.seed,
            global_batch=config.batch.global_batch,
            hr_crop=config.batch.hr_crop,
            permute_colours=config.batch.permute_colours,
        )
        devices = [f"/cpu:{number}" for number in range(replicas)]
        self.strategy = tf.distribute.MirroredStrategy(devices)
        with self.strategy.scope():
            self.networks = build_networks(config, scale=4)
        self.config = config
        self.begin(phase)

    def begin(self, name: str) -> None:
        """Starts a phase with the networks as they are."""
        phase = self.config.phases[name]
        with self.strategy.scope():
            self.state: TrainState = begin_phase(self.networks, phase, steps=TOTAL_STEPS)
        self.call = make_train_call(
            self.strategy,
            self.state,
            phase.losses,
            global_batch=self.config.batch.global_batch,
            extractors={},
        )

    def iterator(self, start: int, stop: int):
        def dataset(context):
            replicas = range(context.num_replicas_in_sync)
            return self.batches.dataset(
                start=start, stop=stop, replicas=replicas, num_replicas=len(replicas)
            )

        return iter(self.strategy.distribute_datasets_from_function(dataset))

    def train(self, start: int, stop: int) -> float:
        """Trains the steps [start, stop); returns the generator's mean loss."""
        result = self.call(self.iterator(start, stop), tf.constant(stop - start))
        return float(result.terms["generator_loss"])


def limit_devices() -> None:
    """Two threads and two logical CPU devices; must come before TensorFlow's first use."""
    tf.config.threading.set_intra_op_parallelism_threads(2)
    tf.config.threading.set_inter_op_parallelism_threads(2)
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
    )


def main(data: str, folder: str, start: str, stop: str) -> None:
    """Trains two replicas with BN from `start` (restored from `folder`) to `stop`; saves there."""
    limit_devices()
    session = Session(data, config("float32", "true"), 2)
    if int(start):
        assert checkpoint_step(Path(folder)) == int(start)
        read_checkpoint(Path(folder), session.state)
    session.train(int(start), int(stop))
    write_checkpoint(Path(folder), session.state, step=int(stop))
    np.savez(Path(folder) / f"after{stop}.npz", **state_arrays(session.state))


if __name__ == "__main__":
    main(*sys.argv[1:])
