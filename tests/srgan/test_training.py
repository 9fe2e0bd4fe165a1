"""Training steps without Ray: replicas, resume, checkpoints."""

import os
import subprocess
import sys
import threading
import time

import keras
import numpy as np
import pytest
import tensorflow as tf

from srgan.training.checkpoint import (
    DamagedCheckpointError,
    read_checkpoint,
    state_arrays,
    write_checkpoint,
)
from srgan.training.step import TrainState, build_state
from tests.srgan.session import TOTAL_STEPS, Session, config


@pytest.fixture(autouse=True)
def _restore_precision():
    yield
    keras.config.set_dtype_policy("float32")
    keras.config.set_floatx("float32")


def weights(state: TrainState) -> np.ndarray:
    return np.concatenate([np.ravel(value) for value in state.generator.get_weights()])


def test_two_replicas_reach_the_weights_of_one(small_data):
    """Same global batch, float64, no BN: what remains is the order of summation."""
    settings = config("float64", "false")
    one, two = Session(small_data, settings, 1), Session(small_data, settings, 2)
    start = weights(one.state)
    np.testing.assert_array_equal(weights(two.state), start)
    losses = one.train(0, 10), two.train(0, 10)
    assert two.strategy.num_replicas_in_sync == 2
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    np.testing.assert_allclose(weights(two.state), weights(one.state), rtol=1e-6, atol=1e-12)
    assert np.abs(weights(one.state) - start).max() > 1e-3


def test_training_lowers_the_loss(small_data):
    session = Session(small_data, config("float32", "false"), 1)
    first = session.train(0, 2)
    session.train(2, 10)
    assert session.train(10, 14) < 0.9 * first


def test_resume_is_bit_exact(small_data, tmp_path):
    """N steps = k steps, a checkpoint, a new state, N - k steps; with BN and cosine decay."""
    settings = config("float32", "true")
    whole = Session(small_data, settings, 1)
    whole.train(0, 5)
    whole.train(5, TOTAL_STEPS)
    first = Session(small_data, settings, 1)
    first.train(0, 5)
    write_checkpoint(tmp_path, first.state, step=5)
    second = Session(small_data, settings, 1)
    step = read_checkpoint(tmp_path, second.state)
    assert step == 5
    second.train(step, TOTAL_STEPS)
    assert_same_bytes(state_arrays(whole.state), state_arrays(second.state))
    assert int(second.state.optimizer.iterations.numpy()) == TOTAL_STEPS


def test_resume_of_two_replicas_in_new_processes_is_bit_exact(small_data, tmp_path):
    """Synchronised BN needs a process for each strategy: TensorFlow's collectives are global."""

    def process(folder, start, stop):
        folder.mkdir(exist_ok=True)
        arguments = [str(small_data), str(folder), str(start), str(stop)]
        subprocess.run([sys.executable, "-m", "tests.srgan.session", *arguments], check=True)

    process(tmp_path / "whole", 0, TOTAL_STEPS)
    process(tmp_path / "parts", 0, 5)
    process(tmp_path / "parts", 5, TOTAL_STEPS)
    whole, parts = (
        np.load(tmp_path / name / f"after{TOTAL_STEPS}.npz") for name in ("whole", "parts")
    )
    assert_same_bytes(dict(whole), dict(parts))


def assert_same_bytes(expected, found):
    assert expected.keys() == found.keys()
    for key, value in expected.items():
        assert value.tobytes() == found[key].tobytes(), key


def test_the_loss_is_the_mean_over_the_global_batch(small_data):
    session = Session(small_data, config("float64", "false"), 2)
    initial = keras.models.clone_model(session.state.generator)
    initial.set_weights(session.state.generator.get_weights())
    (element,) = session.batches.dataset(start=0, stop=1, replicas=[0], num_replicas=1)
    sr = np.asarray(initial(tf.cast(element[0], tf.float64) / 255))
    hr = element[1].numpy() / 127.5 - 1
    assert session.train(0, 1) == pytest.approx(np.mean((hr - sr) ** 2), rel=1e-9)


@pytest.fixture
def checkpoint(small_data, tmp_path):
    session = Session(small_data, config("float32", "true"), 1)
    write_checkpoint(tmp_path, session.state, step=3)
    return tmp_path, session.state


def test_a_damaged_checkpoint_is_named_and_changes_nothing(checkpoint):
    folder, state = checkpoint
    before = weights(state)
    path = folder / "state.npz"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamagedCheckpointError, match=r"state\.npz: expected sha256 \w+, found"):
        read_checkpoint(folder, state)
    np.testing.assert_array_equal(weights(state), before)


def test_a_checkpoint_of_another_network_is_refused(checkpoint):
    folder, _ = checkpoint
    other = build_state(config("float32", "false"), scale=4, total_steps=TOTAL_STEPS)
    with pytest.raises(DamagedCheckpointError, match="another network"):
        read_checkpoint(folder, other)


def test_a_checkpoint_holds_no_pickle(checkpoint):
    folder, _ = checkpoint
    assert sorted(os.listdir(folder)) == ["checkpoint.json", "state.npz"]
    with np.load(folder / "state.npz", allow_pickle=False) as arrays:
        parts = {key.split("/")[0] for key in arrays.files}
    assert parts == {"generator", "optimizer"}


def test_the_wait_for_data_is_measured(small_data):
    """The second call's only batch is held back until half a second after it was asked for."""
    session = Session(small_data, config("float32", "false"), 1)
    gate = threading.Event()

    def hold_back(index):
        if index == 1:
            gate.wait(timeout=60)
        return index

    def dataset(context):
        batches = session.batches.dataset(start=0, stop=2, replicas=[0], num_replicas=1)
        held = tf.data.Dataset.range(2).map(
            lambda index: tf.numpy_function(hold_back, [index], tf.int64)
        )
        return tf.data.Dataset.zip(batches, held).map(lambda batch, index: batch)

    iterator = iter(session.strategy.distribute_datasets_from_function(dataset))
    one_step = tf.constant(1)
    session.call(iterator, one_step)
    opener = threading.Timer(0.5, gate.set)
    start = time.monotonic()
    opener.start()
    waited = float(session.call(iterator, one_step).data_wait)
    elapsed = time.monotonic() - start
    opener.join()
    assert 0.3 < waited < elapsed
