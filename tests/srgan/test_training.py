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
    checkpoint_step,
    read_checkpoint,
    state_arrays,
    write_checkpoint,
)
from srgan.training.step import TrainState
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
    assert checkpoint_step(tmp_path) == 5
    read_checkpoint(tmp_path, second.state)
    second.train(5, TOTAL_STEPS)
    assert_same_bytes(state_arrays(whole.state), state_arrays(second.state))
    assert int(second.state.generator_optimizer.iterations.numpy()) == TOTAL_STEPS


def test_resume_is_bit_exact_in_the_gan_phase_and_across_its_border(small_data, tmp_path):
    settings = config("float32", "true")
    whole = Session(small_data, settings, 1)
    whole.train(0, 5)
    write_checkpoint(tmp_path, whole.state, step=5)  # the phase's last step
    whole.begin("gan")
    whole.train(5, 9)
    middle = tmp_path / "middle"
    middle.mkdir()
    write_checkpoint(middle, whole.state, step=9)
    whole.train(9, TOTAL_STEPS)
    expected = state_arrays(whole.state)
    border = Session(small_data, settings, 1)
    read_checkpoint(tmp_path, border.state)
    border.begin("gan")
    border.train(5, TOTAL_STEPS)
    assert_same_bytes(expected, state_arrays(border.state))
    resumed = Session(small_data, settings, 1, "gan")
    read_checkpoint(middle, resumed.state)
    resumed.train(9, TOTAL_STEPS)
    assert_same_bytes(expected, state_arrays(resumed.state))
    parts = {key.split("/")[0] for key in expected}
    assert parts == {
        "generator",
        "generator_optimizer",
        "discriminator",
        "discriminator_optimizer",
    }


def trainable(network: keras.Model) -> list[np.ndarray]:
    return [np.asarray(variable) for variable in network.trainable_variables]


def test_each_network_is_updated_by_its_own_loss_alone(small_data):
    """One GAN step equals two plain steps on copies: each loss moves only its own variables."""
    settings = config("float64", "true")
    session = Session(small_data, settings, 1, "gan")
    generator, discriminator = session.state.generator, session.state.discriminator
    (element,) = session.batches.dataset(start=0, stop=1, replicas=[0], num_replicas=1)
    lr = tf.cast(element[0], tf.float64) / 255
    hr = tf.cast(element[1], tf.float64) / 127.5 - 1
    copies = [keras.models.clone_model(network) for network in (generator, discriminator)]
    for copy, network in zip(copies, (generator, discriminator), strict=True):
        copy.set_weights(network.get_weights())
    with tf.GradientTape() as generator_tape, tf.GradientTape() as discriminator_tape:
        sr = copies[0](lr, training=True)
        hr_logits, sr_logits = (copies[1](images, training=True) for images in (hr, sr))
        mse = tf.reduce_mean((hr - sr) ** 2)
        tv = tf.reduce_mean(tf.abs(sr[:, 1:] - sr[:, :-1]))
        tv += tf.reduce_mean(tf.abs(sr[:, :, 1:] - sr[:, :, :-1]))
        fooled = -tf.reduce_mean(tf.math.log(tf.sigmoid(sr_logits)))
        generator_loss = mse + 1e-1 * fooled + 1e-2 * tv
        discriminator_loss = -tf.reduce_mean(
            tf.math.log(tf.sigmoid(hr_logits)) + tf.math.log(1 - tf.sigmoid(sr_logits))
        )
    for copy, tape, loss in zip(
        copies,
        (generator_tape, discriminator_tape),
        (generator_loss, discriminator_loss),
        strict=True,
    ):
        optimizer = keras.optimizers.Adam(1e-3, beta_1=0.9)
        optimizer.apply(tape.gradient(loss, copy.trainable_variables), copy.trainable_variables)
    assert session.train(0, 1) == pytest.approx(float(generator_loss), rel=1e-9)
    for copy, network in zip(copies, (generator, discriminator), strict=True):
        for expected, found in zip(trainable(copy), trainable(network), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)


def test_the_terms_of_a_gan_call(small_data):
    session = Session(small_data, config("float64", "false"), 1, "gan")
    result = session.call(session.iterator(0, 3), tf.constant(3))
    terms = {name: float(value) for name, value in result.terms.items()}
    assert list(terms) == [
        "mse",
        "adversarial",
        "total_variation",
        "generator_loss",
        "discriminator_loss",
        "d_hr",
        "d_sr",
        "shift_red",
        "shift_green",
        "shift_blue",
    ]
    weighted = terms["mse"] + 0.1 * terms["adversarial"] + 0.01 * terms["total_variation"]
    assert terms["generator_loss"] == pytest.approx(weighted, rel=1e-9)
    assert 0 < terms["d_sr"] < 1
    assert 0 < terms["d_hr"] < 1


def test_two_replicas_reach_the_weights_of_one_in_the_gan_phase(small_data):
    settings = config("float64", "false")
    one = Session(small_data, settings, 1, "gan")
    two = Session(small_data, settings, 2, "gan")
    losses = one.train(0, 10), two.train(0, 10)
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    for network in ("generator", "discriminator"):
        single, double = (
            np.concatenate([np.ravel(value) for value in getattr(run.state, network).get_weights()])
            for run in (one, two)
        )
        np.testing.assert_allclose(double, single, rtol=1e-6, atol=1e-11)


def test_the_learning_rate_drops_to_a_tenth_at_half_of_the_phase(small_data):
    session = Session(small_data, config("float32", "false"), 1, "gan")
    rates = []
    for step in range(TOTAL_STEPS):
        rates.append(float(session.state.generator_optimizer.learning_rate))
        session.train(step, step + 1)
    half = TOTAL_STEPS // 2
    assert rates == pytest.approx([1e-3] * half + [1e-4] * half)


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


def test_a_checkpoint_of_another_network_is_refused(checkpoint, small_data):
    folder, _ = checkpoint
    other = Session(small_data, config("float32", "false"), 1).state
    with pytest.raises(DamagedCheckpointError, match="another network"):
        read_checkpoint(folder, other)


def test_a_checkpoint_holds_no_pickle(checkpoint):
    folder, _ = checkpoint
    assert sorted(os.listdir(folder)) == ["checkpoint.json", "state.npz"]
    with np.load(folder / "state.npz", allow_pickle=False) as arrays:
        parts = {key.split("/")[0] for key in arrays.files}
    assert parts == {"generator", "generator_optimizer"}


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
