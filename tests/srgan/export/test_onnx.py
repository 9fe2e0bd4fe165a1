"""ONNX files in onnxruntime against Keras: every option of the generator, odd sizes."""

import keras
import numpy as np
import onnx
import onnxruntime
import pytest

from data_pipeline.platform.errors import UserError
from srgan.export.graph import operations
from srgan.export.onnx_file import write_onnx
from srgan.networks import generator
from srgan.upscale import super_resolve
from tests.conftest import photograph


def trained(**options) -> keras.Model:
    """A generator whose every weight matters: no slope, gain, mean or variance is the first one."""
    keras.utils.set_random_seed(1)
    network = generator(blocks=2, filters=8, **options)
    draw = np.random.default_rng(0)
    for weight in network.weights:
        name = weight.path.rpartition("/")[2]
        low, high = {
            "gamma": (0.5, 2),
            "moving_variance": (0.5, 2),
            "beta": (-0.3, 0.3),
            "moving_mean": (-0.3, 0.3),
            "bias": (-0.1, 0.1),
            "alpha": (-0.2, 0.5),
        }.get(name, (0, 0))
        if high:
            weight.assign(draw.uniform(low, high, weight.shape).astype(np.float32))
    return network


def session(folder):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(folder / "model.onnx", options)


@pytest.mark.parametrize(
    ("scale", "options"),
    [
        (2, {}),
        (3, {"global_skip": True, "icnr": True}),
        (4, {"batch_norm": False, "prelu_slope": 0.0}),
        (4, {"batch_norm": False, "global_skip": True, "direct_upsampling": True}),
        (8, {"direct_upsampling": True}),
        (8, {"global_skip": True}),
    ],
)
def test_every_generator_equals_keras_within_one_level(scale, options, tmp_path):
    network = trained(scale=scale, **options)
    write_onnx(network, {}, tmp_path)
    run = session(tmp_path)
    photo = photograph("chelsea.png")
    for height, width in ((1, 1), (7, 5), (40, 61)):
        lr = np.ascontiguousarray(photo[100 : 100 + height, 150 : 150 + width])
        (sr,) = run.run(None, {"image": lr[None]})
        expected = super_resolve(network, lr)
        assert sr.dtype == np.uint8
        assert sr.shape == (1, scale * height, scale * width, 3)
        assert np.abs(sr[0].astype(int) - expected).max() <= 1
        assert np.mean(sr[0] != expected) < 0.01 or sr.size < 1000
    assert expected.std() > 5


def test_a_batch_gives_what_its_images_give(tmp_path):
    write_onnx(trained(scale=2), {}, tmp_path)
    lr = photograph("chelsea.png")[:60].reshape(3, 20, -1, 3)
    run = session(tmp_path)
    (together,) = run.run(None, {"image": lr})
    for one, sr in zip(lr, together, strict=True):
        np.testing.assert_array_equal(run.run(None, {"image": one[None]})[0][0], sr)


def test_the_file_has_no_batch_normalisation_and_holds_the_facts(tmp_path):
    write_onnx(trained(), {"scale": 4, "colour_order": "RGB", "scores": [{"lpips": 0.1}]}, tmp_path)
    model = onnx.load(tmp_path / "model.onnx")
    kinds = [node.op_type for node in model.graph.node]
    assert "BatchNormalization" not in kinds
    # The first convolution, two in each block, one after them, two stages, the last one.
    assert kinds.count("Conv") == 1 + 2 * 2 + 1 + 2 + 1
    facts = {one.key: one.value for one in model.metadata_props}
    assert facts == {"scale": "4", "colour_order": "RGB", "scores": '[{"lpips": 0.1}]'}


def test_folded_batch_normalisation_is_keras_own():
    """In float64 by hand: a convolution, then batch normalisation."""
    network = trained()
    ops = operations(network)
    conv, norm = network.layers[3], network.layers[4]
    assert isinstance(norm, keras.layers.BatchNormalization)
    gamma, beta, mean, variance = (w.astype(np.float64) for w in norm.get_weights())
    kernel, bias = (w.astype(np.float64) for w in conv.get_weights())
    found = next(op for op in ops if op.output == f"generator/{conv.name}")
    gain = gamma / np.sqrt(variance + 1e-3)
    np.testing.assert_allclose(found.weights[0], kernel * gain, rtol=1e-7)
    np.testing.assert_allclose(found.weights[1], beta + (bias - mean) * gain, rtol=1e-6)


def test_a_network_of_other_layers_is_refused():
    image = keras.Input((None, None, 3))
    relu = keras.Model(image, keras.layers.ReLU()(image), name="other")
    with pytest.raises(UserError, match="other: has a layer ReLU: cannot be exported"):
        operations(relu)
    norm = keras.Model(image, keras.layers.BatchNormalization(name="norm")(image), name="other")
    with pytest.raises(UserError, match="other: its layer norm follows no convolution"):
        operations(norm)
