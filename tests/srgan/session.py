"""Training without Ray, for tests: in this process, or as a process of its own."""

import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf

from data_pipeline.loading.dataset import Batches
from data_pipeline.loading.patch_set import PatchSet
from data_pipeline.manifest import require_manifest
from data_pipeline.platform.storage import open_storage
from srgan.config import Config
from srgan.config_file import parse_config
from srgan.network_losses import network_losses
from srgan.training.checkpoint import Position, newest_checkpoint, write_checkpoint
from srgan.training.state import (
    TrainState,
    begin_phase,
    build_networks,
    dtype_policy,
    set_state,
    state_arrays,
)
from srgan.training.step import make_train_call, term_names
from srgan.training.strategy import local_strategy

TOTAL_STEPS = 14

CONFIG = """
seed: 4
precision: {precision}
{more}
generator: {{blocks: 1, filters: 8, batch_norm: {batch_norm}}}
batch: {{global_batch: {global_batch}, hr_crop: 32}}
discriminator: {{filters: 4, dense: 8, batch_norm: {batch_norm}{discriminator}}}
phases:
  pretrain:
    epochs: 1
    losses: {{mse: 1}}
    learning_rate: {{initial: 1e-3, decay: cosine, warmup_steps: {warmup}}}
  gan:
    epochs: 1
    losses: {{mse: 1, adversarial: 1e-1, total_variation: 1e-2}}
    learning_rate: {{initial: 1e-3, decay: drop}}
    {phase}
"""


def config(
    precision: str,
    batch_norm: str,
    *,
    global_batch: int = 8,
    more: str = "",
    phase: str = "",
    discriminator: str = "",
    warmup: int = 0,
) -> Config:
    """Text is added to the configuration, the gan phase, the discriminator; pretrain's warm-up."""
    text = CONFIG.format(
        precision=precision,
        batch_norm=batch_norm,
        global_batch=global_batch,
        more=more,
        phase=phase,
        discriminator=discriminator,
        warmup=warmup,
    )
    return parse_config(text, "test")


class Session:
    """One process's training: a strategy over CPU devices, a phase's state, and steps."""

    def __init__(self, data, config: Config, replicas: int, phase: str = "pretrain", run=None):
        """`run` holds the weights of networks that losses need."""
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
        # As in a worker's process, layers are numbered from the start: TensorFlow's graphs order
        # some sums by their names, which then round differently.
        keras.utils.clear_session()
        self.policy = ExitStack()  # ends with the session
        self.policy.enter_context(dtype_policy(config.precision))
        devices = [f"/cpu:{number}" for number in range(replicas)]
        self.strategy = local_strategy(devices)
        with self.strategy.scope():
            self.networks = build_networks(config, scale=4)
            self.compare = network_losses(config, run)
        self.config = config
        self.begin(phase)

    def begin(self, name: str) -> None:
        """Starts a phase with the networks as they are."""
        phase = self.config.phases[name]
        with self.strategy.scope():
            self.state: TrainState = begin_phase(self.networks, phase, steps=TOTAL_STEPS)
        self.phase, self.term_names = name, term_names(phase.losses)
        self.call = make_train_call(
            self.strategy,
            self.state,
            self.config,
            phase,
            self.compare,
            xla=self.config.xla is True,
        )

    def iterator(self, start: int, stop: int):
        def dataset(context):
            replicas = range(context.num_replicas_in_sync)
            return self.batches.dataset(
                start=start, stop=stop, replicas=replicas, num_replicas=len(replicas)
            )

        return iter(self.strategy.distribute_datasets_from_function(dataset))

    def terms(self, start: int, stop: int) -> dict[str, np.ndarray]:
        """Trains the steps [start, stop); returns every term at every step."""
        result = self.call(
            self.iterator(start, stop), tf.constant(stop - start), tf.zeros(3, tf.float64)
        )
        return dict(zip(self.term_names, result.terms.numpy().T, strict=True))

    def train(self, start: int, stop: int) -> float:
        """Trains the steps [start, stop); returns the generator's mean loss."""
        return float(self.terms(start, stop)["generator_loss"].mean())

    def save(self, run, step: int) -> None:
        """Writes a checkpoint into a RUN."""
        position = Position(step, self.phase, 0, 0, {})
        write_checkpoint(open_storage(str(run)), state_arrays(self.state), position)

    def restore(self, run) -> int:
        """Sets the state to RUN's newest checkpoint; returns its step."""
        checkpoint = newest_checkpoint(open_storage(str(run)))
        assert checkpoint is not None
        set_state(self.state, checkpoint.arrays, checkpoint.name)
        return checkpoint.position.step


def assert_same_bytes(expected, found) -> None:
    """Two states' arrays are equal, every bit."""
    assert expected.keys() == found.keys()
    for key, value in expected.items():
        assert value.tobytes() == found[key].tobytes(), key


def limit_devices() -> None:
    """Two threads and two logical CPU devices; must come before TensorFlow's first use."""
    tf.config.threading.set_intra_op_parallelism_threads(2)
    tf.config.threading.set_inter_op_parallelism_threads(2)
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
    )


def train_apart(
    data: Path, run: Path, start: int, stop: int, settings: Config, *, replicas: int, phase: str
) -> dict:
    """Trains the steps [start, stop) in a process of its own, from and to RUN.

    Two strategies with collective operations cannot live in one process: TensorFlow numbers these
    operations through.

    Args:
        data: DATA.
        run: RUN, with the weights of networks that losses need.
        start: 0, or the step of RUN's newest checkpoint.
        stop: Likewise.
        settings: The experiment.
        replicas: On CPU devices.
        phase: The one that is trained.

    Returns:
        The state's arrays.
    """
    numbers = map(str, (start, stop, replicas))
    arguments = [str(data), str(run), *numbers, phase, settings.model_dump_json()]
    subprocess.run([sys.executable, "-m", "tests.srgan.session", *arguments], check=True)
    checkpoint = newest_checkpoint(open_storage(str(run)))
    assert checkpoint is not None
    assert checkpoint.position.step == stop
    return dict(checkpoint.arrays)


def main(
    data: str, run: str, start: str, stop: str, replicas: str, phase: str, settings: str
) -> None:
    """What `train_apart` runs."""
    limit_devices()
    experiment = Config.model_validate_json(settings)
    session = Session(data, experiment, int(replicas), phase, open_storage(run))
    if int(start):
        assert session.restore(run) == int(start)
    session.train(int(start), int(stop))
    session.save(run, int(stop))


if __name__ == "__main__":
    main(*sys.argv[1:])
