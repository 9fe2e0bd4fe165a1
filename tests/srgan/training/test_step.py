"""What a step can do besides: averages, clipping, skipping, XLA, half precision."""

import os
from collections import Counter
from functools import cache
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from benchmarks.step_graph import traced_operations
from data_pipeline.platform.storage import Storage, open_storage
from srgan import losses
from srgan.config import Config
from srgan.lpips import lpips
from srgan.training.adam import FusedAdam
from srgan.training.state import state_arrays
from tests.srgan.session import Session, assert_same_bytes, config
from tests.srgan.test_network_losses import lpips_weights

PATCHES = ", patch: true, spectral_norm: true"


@pytest.fixture(autouse=True)
def _restore_precision():
    yield
    keras.config.set_dtype_policy("float32")
    keras.config.set_floatx("float32")


@cache
def plain_terms(data: Path, phase: str) -> dict[str, np.ndarray]:
    """What the first steps compute with no option on."""
    return Session(data, config("float32", "true"), 1, phase).terms(0, 3)


def flat(network: keras.Model) -> np.ndarray:
    return np.concatenate([np.ravel(value) for value in network.get_weights()])


def trainable(network: keras.Model) -> np.ndarray:
    return np.concatenate([np.ravel(variable) for variable in network.trainable_variables])


def test_the_average_follows_the_generator(small_data):
    """After every step it is d of itself and 1 - d of the generator, batch statistics included.

    d is 2/11, 3/12 and 4/13 after the first steps of a phase, and 0.3 at most.
    """
    settings = config("float64", "true", more="generator_average: 0.3")
    session = Session(small_data, settings, 1, "pretrain")
    generator, average = session.networks.generator, session.networks.average
    expected = flat(generator)
    np.testing.assert_array_equal(flat(average), expected)
    for phase in ("pretrain", "gan"):
        session.begin(phase)
        for step, decay in enumerate((2 / 11, 3 / 12, 0.3)):
            session.train(step, step + 1)
            expected = decay * expected + (1 - decay) * flat(generator)
            np.testing.assert_allclose(flat(average), expected, rtol=1e-12, atol=1e-15)
    assert any(key.startswith("average/") for key in state_arrays(session.state))


def test_the_average_does_not_change_the_training(small_data):
    plain = Session(small_data, config("float32", "true"), 1, "gan")
    averaged = Session(
        small_data, config("float32", "true", more="generator_average: 0.8"), 1, "gan"
    )
    for session in (plain, averaged):
        session.train(0, 3)
    for network in ("generator", "discriminator"):
        one, other = (flat(getattr(session.networks, network)) for session in (plain, averaged))
        np.testing.assert_array_equal(one, other)


def test_clipping_scales_to_the_global_norm(small_data, monkeypatch):
    """Each optimizer gets its network's gradient, scaled down to the norm where it is larger."""
    norms = {name: tf.Variable(0.0) for name in ("generator_adam", "discriminator_adam")}
    apply_sum = FusedAdam.apply_sum

    def spy(self, gradients, variables):
        norms[self.name].assign(tf.linalg.global_norm(gradients))
        apply_sum(self, gradients, variables)

    monkeypatch.setattr(FusedAdam, "apply_sum", spy)
    Session(small_data, config("float32", "true"), 1, "gan").train(0, 1)
    whole = [float(norm) for norm in norms.values()]
    limit = sum(whole) / 2
    settings = config("float32", "true", phase=f"clip_norm: {limit}")
    Session(small_data, settings, 1, "gan").train(0, 1)
    clipped = [float(norm) for norm in norms.values()]
    np.testing.assert_allclose(clipped, np.minimum(whole, limit), rtol=1e-5)
    assert min(whole) < 0.9 * limit


@pytest.fixture
def poison(monkeypatch):
    """Makes the MSE of a session's third call of a step not a number."""
    calls = tf.Variable(0)
    clean = losses.pixel_mse

    def poisoned(hr, sr):
        bad = tf.equal(calls.assign_add(1), 3)
        return clean(hr, sr) * tf.where(bad, tf.cast(float("nan"), sr.dtype), 1)

    monkeypatch.setattr(losses, "pixel_mse", poisoned)


def test_a_step_that_is_not_finite_is_told(small_data, poison):
    session = Session(small_data, config("float32", "true"), 1, "gan")
    terms = session.terms(0, 4)
    for name in ("mse", "generator_loss", "generator_gradient"):
        assert np.isfinite(terms[name]).tolist() == [True, True, False, False], name
    assert np.isnan(flat(session.networks.generator)).any()


@pytest.mark.parametrize("xla", ["false", "true"])
def test_a_step_that_is_not_finite_changes_nothing_if_it_may_be_skipped(small_data, poison, xla):
    more = f"{{skip_steps: 1}}\nxla: {xla}\ngenerator_average: 0.9"
    settings = config("float32", "true", more=f"failures: {more}")
    session = Session(small_data, settings, 1, "gan")
    session.train(0, 2)
    before = state_arrays(session.state)
    terms = session.terms(2, 3)
    assert not np.isfinite(terms["mse"]).any()
    after = state_arrays(session.state)
    for key, value in before.items():
        assert value.tobytes() == after[key].tobytes(), key
    assert np.isfinite(session.train(3, 4))
    assert int(session.state.generator_optimizer.iterations.numpy()) == 3


def test_being_ready_to_skip_does_not_change_the_training(small_data):
    settings = (
        config("float32", "true"),
        config("float32", "true", more="failures: {skip_steps: 1}"),
    )
    plain, ready = (Session(small_data, one, 1, "gan") for one in settings)
    for session in (plain, ready):
        session.train(0, 3)
    np.testing.assert_array_equal(flat(plain.networks.generator), flat(ready.networks.generator))


def traced(session: Session) -> Counter[str]:
    iterator = session.iterator(0, 4)
    return traced_operations(session.call, (iterator, tf.constant(1), tf.zeros(3, tf.float64)))


@pytest.mark.parametrize(
    ("phase", "batch_norm", "sums"),
    [
        # A layer of batch normalisation forward, and once for each way back through it; the
        # generator has 3, and the discriminator 7 on HR, on SR for itself and for the generator.
        ("pretrain", "true", 3 * 2),
        ("gan", "true", 3 * 2 + 7 * (2 + 3)),
        ("pretrain", "false", 0),
        ("gan", "false", 0),
    ],
)
def test_a_step_sums_over_replicas_no_more_than_it_must(small_data, phase, batch_norm, sums):
    """Besides batch normalisation: the terms, and all gradients at once.

    With the paper's 33 layers in the generator these are 68 and 103.
    """
    session = Session(small_data, config("float32", batch_norm), 2, phase)
    found = sum(count for name, count in traced(session).items() if "Collective" in name)
    assert found == 2 * (sums + 2)  # both replicas'


@pytest.mark.parametrize("phase", ["pretrain", pytest.param("gan", marks=pytest.mark.slow)])
def test_xla_gives_equal_results(small_data, phase):
    """Within the rounding of float32 sums in another order."""
    compiled = Session(small_data, config("float32", "true", more="xla: true"), 1, phase)
    iterator = compiled.iterator(0, 4)
    function = compiled.call.get_concrete_function(
        iterator, tf.constant(1), tf.zeros(3, tf.float64)
    )
    (body,) = [
        one
        for one in function.graph.as_graph_def().library.function
        if "body" in one.signature.name
    ]
    assert [node.op for node in body.node_def if "Conv" in node.op or "Adam" in node.op] == []
    assert len([node for node in body.node_def if "PartitionedCall" in node.op]) == 1
    other = compiled.terms(0, 3)
    for name, values in plain_terms(small_data, phase).items():
        np.testing.assert_allclose(other[name], values, rtol=1e-3, atol=1e-5, err_msg=name)


# TensorFlow asks the processor, and not this limit of oneDNN, whether oneDNN has bfloat16.
@pytest.mark.skipif("ONEDNN_MAX_CPU_ISA" in os.environ, reason="oneDNN is limited by hand")
@pytest.mark.parametrize(
    ("phase", "discriminator"), [("pretrain", ""), ("gan", ""), ("gan", PATCHES)]
)
def test_half_precision_makes_nearly_the_same_step(small_data, phase, discriminator):
    """Equal terms within bfloat16's precision, and updates that point the same way.

    Adam's first update of a weight is about its gradient's sign, which rounding turns where the
    gradient is small: cosines of 0.83 (generator) and above were seen with every kernel. Later
    steps of two networks that compete drift apart, by how much depends on the kernel.
    """
    terms, updates = [], []
    for precision in ("float32", "mixed_bfloat16"):
        settings = config(precision, "true", discriminator=discriminator)
        session = Session(small_data, settings, 1, phase)
        networks = (session.networks.generator, session.networks.discriminator)
        before = [trainable(network) for network in networks]
        terms.append(session.terms(0, 1))
        after = [trainable(network) for network in networks]
        updates.append([new - old for new, old in zip(after, before, strict=True)])
    for network in networks:
        assert network.output.dtype == "float32"
        assert network.layers[1].compute_dtype == "bfloat16"
        assert all(variable.dtype == "float32" for variable in network.variables)
    full, half = terms
    for name, values in full.items():
        np.testing.assert_allclose(half[name], values, rtol=0.03, atol=0.02, err_msg=name)
    trained = 1 if phase == "pretrain" else 2
    for one, other in list(zip(*updates, strict=True))[:trained]:
        assert one @ other > 0.7 * np.linalg.norm(one) * np.linalg.norm(other)


@pytest.fixture
def lpips_run(tmp_path) -> Storage:
    np.savez(tmp_path / "lpips_vgg16.npz", **lpips_weights())
    return open_storage(str(tmp_path))


@pytest.mark.parametrize(
    ("precision", "xla"),
    [("float32", False), ("float32", True), ("float64", False), ("mixed_bfloat16", False)],
)
def test_lpips_is_a_term_of_a_phase(small_data, lpips_run, precision, xla):
    """The first step's is that of SR of the first batch, as `lpips` itself computes it."""
    phase = {"steps": 4, "losses": {"lpips": 0.5, "mse": 1.0}}
    more = {"lpips_weights": "w.npz", "phases": {"pretrain": phase}, "xla": xla}
    settings = config(precision, "false").model_dump() | more
    session = Session(small_data, Config.model_validate(settings), 1, run=lpips_run)
    assert session.term_names[:3] == ["mse", "lpips", "generator_loss"]
    lr, hr = next(session.iterator(0, 1))
    sr = session.networks.generator(tf.cast(lr, session.networks.generator.output.dtype) / 255)
    expected = np.mean(lpips(tf.cast(hr, tf.float32) / 127.5 - 1, sr, lpips_weights(), "VGG16"))
    before = flat(session.networks.generator)
    terms = session.terms(0, 2)
    assert np.isfinite(list(terms.values())).all()
    tolerance = 0.03 if precision == "mixed_bfloat16" else 1e-4
    np.testing.assert_allclose(terms["lpips"][0], expected, rtol=tolerance)
    loss = terms["mse"] + 0.5 * terms["lpips"]
    np.testing.assert_allclose(terms["generator_loss"], loss, rtol=1e-5)
    assert (flat(session.networks.generator) != before).all()


def test_a_run_with_lpips_resumes_bit_exact(small_data, lpips_run, tmp_path):
    phase = {"steps": 4, "losses": {"lpips": 0.5}}
    more = {"lpips_weights": "w.npz", "phases": {"pretrain": phase}}
    settings = Config.model_validate(config("float32", "true").model_dump() | more)
    whole, first, second = (Session(small_data, settings, 1, run=lpips_run) for _ in range(3))
    whole.train(0, 4)
    first.train(0, 2)
    first.save(tmp_path, 2)
    assert second.restore(tmp_path) == 2
    second.train(2, 4)
    assert_same_bytes(state_arrays(whole.state), state_arrays(second.state))


def test_a_patch_discriminator_trains(small_data, tmp_path):
    """Its terms are the means over its logits, with XLA as without; it resumes bit-exact."""
    plain, compiled = (
        Session(
            small_data,
            config("float64", "false", discriminator=PATCHES, more=f"xla: {xla}"),
            1,
            "gan",
        )
        for xla in ("false", "true")
    )
    lr, hr = next(plain.iterator(0, 1))
    sr = plain.networks.generator(tf.cast(lr, tf.float64) / 255)
    pictures = {"d_hr": tf.cast(hr, tf.float64) / 127.5 - 1, "d_sr": sr}
    expected = {
        name: tf.sigmoid(plain.networks.discriminator(one)) for name, one in pictures.items()
    }
    before = trainable(plain.networks.discriminator)
    terms, others = plain.terms(0, 3), compiled.terms(0, 3)
    for name, values in expected.items():
        assert values.shape == (8, 8, 8, 1)
        np.testing.assert_allclose(terms[name][0], np.mean(values), rtol=1e-10)
        assert np.all((terms[name] > 0) & (terms[name] < 1))
    for name, values in terms.items():
        np.testing.assert_allclose(others[name], values, rtol=1e-5, atol=1e-12, err_msg=name)
    assert (trainable(plain.networks.discriminator) != before).mean() > 0.9
    plain.save(tmp_path, 3)
    resumed = Session(small_data, plain.config, 1, "gan")
    assert resumed.restore(tmp_path) == 3
    for session in (plain, resumed):
        session.train(3, 5)
    assert_same_bytes(state_arrays(plain.state), state_arrays(resumed.state))
