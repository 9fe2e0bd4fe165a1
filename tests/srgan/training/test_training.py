"""Training steps without Ray: replicas, resume, checkpoints."""

import threading
from collections.abc import Mapping

import keras
import numpy as np
import pytest
import tensorflow as tf

from data_pipeline.platform.storage import open_storage
from srgan.config_file import load_config
from srgan.run_layout import LPIPS_KEY
from srgan.training.state import last_rate, state_arrays
from tests.conftest import PATIENCE, ROOT
from tests.srgan.session import TOTAL_STEPS, Session, assert_same_bytes, config, train_apart
from tests.srgan.test_network_losses import lpips_weights


@pytest.fixture(autouse=True)
def _restore_precision():
    yield
    keras.config.set_dtype_policy("float32")
    keras.config.set_floatx("float32")


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"batch_norm": "false", "more": "xla: true"},
        # Uneven, 3 and 4 images; BN over both replicas; the sum of the gradients clipped.
        {
            "batch_norm": "true",
            "global_batch": 7,
            "phase": "clip_norm: 1e-2",
            "more": "generator_average: 0.9",
        },
        {
            "batch_norm": "false",
            "discriminator": ", patch: true, spectral_norm: true",
            "more": "xla: true",
        },
    ],
    ids=["xla", "all-else", "patches"],
)
def test_two_replicas_reach_the_weights_of_one(small_data, tmp_path, settings):
    """Same global batch, float64: what remains is the order of summation."""
    one, two = (
        train_apart(
            small_data,
            tmp_path / str(replicas),
            0,
            10,
            config("float64", **settings),
            replicas=replicas,
            phase="gan",
        )
        for replicas in (1, 2)
    )
    assert one.keys() == two.keys()
    for key, value in one.items():
        # A bias before BN has no gradient but what rounding leaves of it.
        np.testing.assert_allclose(two[key], value, rtol=1e-6, atol=1e-10, err_msg=key)


@pytest.mark.slow
def test_two_replicas_train_the_recommended_recipe_as_one_does(small_data, tmp_path):
    """XLA, half precision, LPIPS, a patch discriminator and the average, all together.

    One replica rounds the whole batch's gradient to bfloat16, two round that of each half. They
    differ by 0.001 (generator) and 0.05 (discriminator) of what the steps change. Where a replica
    trains without the other's gradient, it is 0.24 and more.
    """
    small = ["generator.blocks=1", "generator.filters=8", "discriminator.filters=4"]
    small += ["batch.hr_crop=32", "batch.global_batch=4", "xla=true"]  # as on GPUs
    settings = load_config(ROOT / "configs/recommended.yaml", small)
    ends = []
    for replicas in (1, 2):
        run = tmp_path / str(replicas)
        run.mkdir()
        np.savez(run / LPIPS_KEY, **lpips_weights())
        ends.append(train_apart(small_data, run, 0, 3, settings, replicas=replicas, phase="gan"))
    start = Session(small_data, settings, 1, "gan", open_storage(str(run))).state
    first, one, two = (floats_of_parts(state) for state in (state_arrays(start), *ends))
    networks = {"generator", "discriminator"}
    assert one.keys() == {*networks, *(f"{name}_optimizer" for name in networks), "average"}
    for part, values in one.items():
        change = np.linalg.norm(values - first[part])
        assert np.linalg.norm(two[part] - values) < 0.15 * change, part


def floats_of_parts(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A state's floating-point variables, end to end for each of its parts."""
    parts: dict[str, list[np.ndarray]] = {}
    for key, value in state.items():
        if value.dtype == np.float32:
            parts.setdefault(key.split("/")[0], []).append(value.ravel())
    return {part: np.concatenate(values) for part, values in parts.items()}


def test_training_lowers_the_loss(small_data):
    session = Session(small_data, config("float32", "false"), 1)
    first = session.train(0, 2)
    session.train(2, 10)
    assert session.train(10, 14) < 0.9 * first


@pytest.mark.parametrize("warmup", [0, 9])
def test_resume_is_bit_exact(small_data, tmp_path, warmup):
    """N steps = k steps, a checkpoint, a new state, N - k steps; with BN and cosine decay."""
    settings = config("float32", "true", warmup=warmup)
    whole = Session(small_data, settings, 1)
    whole.train(0, 5)
    whole.train(5, TOTAL_STEPS)
    first = Session(small_data, settings, 1)
    first.train(0, 5)
    first.save(tmp_path, 5)
    second = Session(small_data, settings, 1)
    assert second.restore(tmp_path) == 5
    second.train(5, TOTAL_STEPS)
    assert_same_bytes(state_arrays(whole.state), state_arrays(second.state))
    assert int(second.state.generator_optimizer.iterations.numpy()) == TOTAL_STEPS


def test_resume_is_bit_exact_in_the_gan_phase_and_across_its_border(small_data, tmp_path):
    settings = config("float32", "true")
    whole = Session(small_data, settings, 1)
    whole.train(0, 5)
    whole.save(tmp_path, 5)  # the phase's last step
    whole.begin("gan")
    whole.train(5, 9)
    middle = tmp_path / "middle"
    whole.save(middle, 9)
    whole.train(9, TOTAL_STEPS)
    expected = state_arrays(whole.state)
    border = Session(small_data, settings, 1)
    assert border.restore(tmp_path) == 5
    border.begin("gan")
    border.train(5, TOTAL_STEPS)
    assert_same_bytes(expected, state_arrays(border.state))
    resumed = Session(small_data, settings, 1, "gan")
    assert resumed.restore(middle) == 9
    resumed.train(9, TOTAL_STEPS)
    assert_same_bytes(expected, state_arrays(resumed.state))
    parts = {key.split("/")[0] for key in expected}
    assert parts == {
        "generator",
        "generator_optimizer",
        "discriminator",
        "discriminator_optimizer",
    }


def test_a_discriminator_that_rests_for_a_phase_is_kept(small_data, tmp_path):
    """gan, pretrain, gan: a checkpoint of the phase between them holds D, as it was left."""
    settings = config("float32", "true")
    whole = Session(small_data, settings, 1, "gan")
    whole.train(0, 3)
    whole.begin("pretrain")
    whole.train(3, 5)
    whole.save(tmp_path, 5)
    whole.begin("gan")
    whole.train(5, 8)
    resumed = Session(small_data, settings, 1, "pretrain")
    assert resumed.restore(tmp_path) == 5
    resumed.begin("gan")
    resumed.train(5, 8)
    assert_same_bytes(state_arrays(whole.state), state_arrays(resumed.state))


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
            # Adam turns rounding of a gradient near 0 into 1e4 times as much: 1e-3 / 1e-7.
            np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-8)


def test_the_terms_of_a_gan_call(small_data):
    session = Session(small_data, config("float64", "false"), 1, "gan")
    terms = session.terms(0, 3)
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
        "generator_gradient",
        "discriminator_gradient",
    ]
    weighted = terms["mse"] + 0.1 * terms["adversarial"] + 0.01 * terms["total_variation"]
    np.testing.assert_allclose(terms["generator_loss"], weighted, rtol=1e-9)
    for name in ("d_hr", "d_sr"):
        assert terms[name].shape == (3,)
        assert (terms[name] > 0).all()
        assert (terms[name] < 1).all()
    assert (terms["generator_gradient"] == 0).all()


def test_the_learning_rate_drops_to_a_tenth_at_half_of_the_phase(small_data):
    """And what is logged after a step is the rate that the step used."""
    session = Session(small_data, config("float32", "false"), 1, "gan")
    used, logged = [], []
    for step in range(TOTAL_STEPS):
        used.append(float(session.state.generator_optimizer.learning_rate))
        session.train(step, step + 1)
        logged.append(logged_rate(session))
    half = TOTAL_STEPS // 2
    assert used == pytest.approx([1e-3] * half + [1e-4] * half)
    assert logged == [1e-3] * half + [1e-4] * half


def logged_rate(session: Session) -> float:
    return last_rate(session.state, session.config.phases[session.phase], steps=TOTAL_STEPS)


def test_the_logged_rate_is_the_same_after_a_resume(small_data, tmp_path):
    """Also before the first step of a phase, where it is the first step's."""
    settings = config("float32", "false", warmup=3)
    session = Session(small_data, settings, 1)
    assert logged_rate(session) == pytest.approx(1e-3 / 3)
    session.train(0, TOTAL_STEPS)
    assert 0 < logged_rate(session) < 2e-5  # a cosine's last step; its end would be 0
    session.save(tmp_path, TOTAL_STEPS)
    resumed = Session(small_data, settings, 1)
    resumed.restore(tmp_path)
    assert logged_rate(resumed) == logged_rate(session)


@pytest.mark.parametrize("phase", ["pretrain", "gan"])
def test_the_large_batch_configuration_trains_with_a_rising_rate(small_data, phase):
    small = ["generator.blocks=1", "generator.filters=4", "discriminator.filters=4"]
    small += ["discriminator.dense=8", "batch.hr_crop=32", "batch.global_batch=8"]
    small += ["phases.gan.losses={mse: 1, adversarial: 1.0e-3}"]  # without VGG's weights
    session = Session(small_data, load_config(ROOT / "configs/large_batch.yaml", small), 1, phase)
    rates = []
    for step in range(3):
        assert np.isfinite(session.train(step, step + 1))
        rates.append(last_rate(session.state, session.config.phases[phase], steps=TOTAL_STEPS))
    assert rates == pytest.approx([4e-4 * (step + 1) / 635 for step in range(3)])


@pytest.mark.slow
def test_resume_of_two_replicas_in_new_processes_is_bit_exact(small_data, tmp_path):
    settings = {"settings": config("float32", "true"), "replicas": 2, "phase": "pretrain"}
    whole = train_apart(small_data, tmp_path / "whole", 0, TOTAL_STEPS, **settings)
    train_apart(small_data, tmp_path / "parts", 0, 5, **settings)
    parts = train_apart(small_data, tmp_path / "parts", 5, TOTAL_STEPS, **settings)
    assert_same_bytes(whole, parts)


def test_the_loss_is_the_mean_over_the_global_batch(small_data):
    session = Session(small_data, config("float64", "false"), 1)
    initial = keras.models.clone_model(session.state.generator)
    initial.set_weights(session.state.generator.get_weights())
    (element,) = session.batches.dataset(start=0, stop=1, replicas=[0], num_replicas=1)
    sr = np.asarray(initial(tf.cast(element[0], tf.float64) / 255))
    hr = element[1].numpy() / 127.5 - 1
    assert session.train(0, 1) == pytest.approx(np.mean((hr - sr) ** 2), rel=1e-9)


def test_the_wait_for_data_is_measured(small_data, monkeypatch):
    """The second call's batch comes five seconds after the call asks for it, by a clock in here."""
    session = Session(small_data, config("float32", "false"), 1)
    clock, second_call, asked = [100.0], threading.Event(), threading.Event()

    def read_clock():
        if second_call.is_set():
            asked.set()
        return clock[0]

    def timestamp():
        return tf.ensure_shape(tf.numpy_function(read_clock, [], tf.float64), ())

    def hold_back(index):
        if index == 1:
            assert asked.wait(PATIENCE)
            clock[0] += 5
        return index

    def dataset(context):
        batches = session.batches.dataset(start=0, stop=2, replicas=[0], num_replicas=1)
        held = tf.data.Dataset.range(2).map(
            lambda index: tf.numpy_function(hold_back, [index], tf.int64)
        )
        return tf.data.Dataset.zip(batches, held).map(lambda batch, index: batch)

    monkeypatch.setattr(tf, "timestamp", timestamp)
    iterator = iter(session.strategy.distribute_datasets_from_function(dataset))
    arguments = (iterator, tf.constant(1), tf.zeros(3, tf.float64))
    assert float(session.call(*arguments).data_wait) == 0
    second_call.set()
    assert float(session.call(*arguments).data_wait) == 5
