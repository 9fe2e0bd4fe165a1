"""VGG19's features: against an independent computation, and where their weights come from."""

import hashlib
import inspect
import io

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

from data_pipeline.platform.errors import UserError
from data_pipeline.platform.storage import open_storage
from srgan import losses, vgg_weights
from srgan.config import Config
from srgan.vgg import FeatureExtractor
from srgan.vgg_layers import check_weights, weight_shapes
from srgan.vgg_weights import provide_weights, read_vgg_weights
from tests.conftest import BENCHMARKS

REAL = BENCHMARKS.parent / "weights" / "vgg19_keras_imagenet_block1to3.npz"


def random_weights(name: str) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(1)
    return {
        key: draw.normal(0, np.sqrt(2 / np.prod(shape[:-1] or (9,))), shape).astype(np.float32)
        for key, shape in weight_shapes(name).items()
    }


@pytest.fixture
def real_weights() -> dict[str, np.ndarray]:
    if not REAL.is_file():
        pytest.skip(f"no VGG19 weights at {REAL}; set SRGAN_TEST_DATA")
    with np.load(REAL) as arrays:
        return dict(arrays)


def convolve(image: np.ndarray, kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """3x3, zeros around, then ReLU: shifted matrix products in float64."""
    height, width = image.shape[:2]
    padded = np.pad(image, ((1, 1), (1, 1), (0, 0)))
    total = sum(
        padded[y : y + height, x : x + width] @ kernel[y, x].astype(np.float64)
        for y in range(3)
        for x in range(3)
    )
    return np.maximum(total + bias, 0)


def features(image: np.ndarray, weights: dict[str, np.ndarray], name: str) -> np.ndarray:
    """phi_{2,2} or phi_{5,4} of an RGB image in [-1, 1], in numpy."""
    x = ((image + 1) * 127.5)[..., ::-1] - [103.939, 116.779, 123.68]
    for layer in (key.removesuffix("/kernel") for key in weight_shapes(name) if "kernel" in key):
        if layer.endswith("conv1") and layer != "block1_conv1":
            x = x.reshape(x.shape[0] // 2, 2, x.shape[1] // 2, 2, -1).max(axis=(1, 3))
        x = convolve(x, weights[f"{layer}/kernel"], weights[f"{layer}/bias"])
    return x / 12.75


@pytest.mark.parametrize(
    ("name", "kind", "shape"),
    [
        ("vgg22", "random", (16, 8, 128)),
        ("vgg22", "real", (16, 8, 128)),
        ("vgg54", "random", (2, 1, 512)),
    ],
)
def test_features_equal_an_independent_computation(name, kind, shape, request):
    weights = random_weights(name) if kind == "random" else request.getfixturevalue("real_weights")
    image = np.random.default_rng(2).uniform(-1, 1, (32, 16, 3))
    found = np.asarray(FeatureExtractor(name, weights)(image[None]))
    expected = features(image, weights, name)
    assert found.shape == (1, *shape)
    assert found.dtype == np.float32
    assert np.abs(found[0] - expected).max() < 1e-4 * np.abs(expected).max()


def test_the_content_loss_has_a_gradient_and_the_network_is_frozen():
    extractor = FeatureExtractor("vgg22", random_weights("vgg22"))
    draw = np.random.default_rng(4)
    hr = draw.uniform(-1, 1, (1, 16, 16, 3)).astype(np.float32)
    sr = tf.Variable(draw.uniform(-1, 1, (1, 16, 16, 3)).astype(np.float32))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(losses.content(extractor(hr), extractor(sr)))
    assert extractor._network.trainable_variables == []
    gradient = np.asarray(tape.gradient(loss, sr))
    assert np.abs(gradient).min(axis=-1).max() > 0
    assert float(np.asarray(losses.content(extractor(hr), extractor(hr)))[0]) == 0


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "float64"])
def test_features_are_float32_under_any_policy(policy):
    """bfloat16 has 8 bits: three roundings a layer leave 1 % of the features' size."""
    weights, image = random_weights("vgg22"), np.full((1, 16, 16, 3), 0.3, np.float32)
    expected = np.asarray(FeatureExtractor("vgg22", weights)(image))
    keras.config.set_dtype_policy(policy)
    keras.config.set_floatx("float64" if policy == "float64" else "float32")
    try:
        extractor = FeatureExtractor("vgg22", weights)
        found = extractor(image)
    finally:
        keras.config.set_floatx("float32")
        keras.config.set_dtype_policy("float32")
    assert keras.backend.standardize_dtype(found.dtype) == "float32"
    difference = np.linalg.norm(found - expected) / np.linalg.norm(expected)
    if policy == "float64":
        assert difference == 0
    else:
        assert 0 < difference < 0.01


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("block2_conv2/bias"), "lacks block2_conv2/bias, which vgg22 needs"),
        (
            lambda w: w.update({"block1_conv2/kernel": np.zeros((3, 3, 64, 3), np.float32)}),
            r"block1_conv2/kernel has shape \[3, 3, 64, 3\], expected \[3, 3, 64, 64\]",
        ),
        (lambda w: w["block1_conv1/bias"].fill(np.nan), "block1_conv1/bias holds values that are"),
    ],
)
def test_wrong_weights_are_named(change, message):
    weights = random_weights("vgg22")
    change(weights)
    with pytest.raises(ValueError, match=message):
        check_weights(weights, weight_shapes("vgg22"), "vgg22")


def write_h5(path, weights) -> None:
    """As Keras wrote its file: the arrays one folder deeper, under names of TensorFlow 1."""
    with h5py.File(path, "w") as file:
        for key, value in weights.items():
            layer, part = key.split("/")
            file.create_dataset(f"{layer}/{layer}/{part[0].upper()}_1:0", data=value)


def needing(source: object, **losses: float) -> Config:
    phase = {"steps": 1, "losses": {"mse": 1.0} | losses}
    return Config.model_validate({"vgg_weights": str(source), "phases": {"gan": phase}})


@pytest.mark.parametrize("suffix", ["npz", "h5"])
def test_a_run_keeps_the_arrays_that_it_needs(suffix, tmp_path):
    weights = random_weights("vgg22") | {"block9_conv9/bias": np.zeros(3, np.float32)}
    path = tmp_path / f"weights.{suffix}"
    if suffix == "npz":
        np.savez(path, **weights)
    else:
        write_h5(path, weights)
    run = open_storage(str(tmp_path / "run"))
    provide_weights(needing(path, vgg22=1.0), run)
    path.unlink()
    provide_weights(needing(path, vgg22=1.0), run)  # a resume needs the file no more
    kept = read_vgg_weights(run)
    assert kept.keys() == weight_shapes("vgg22").keys()
    for key, value in kept.items():
        np.testing.assert_array_equal(value, weights[key])


def test_a_run_without_content_loss_needs_no_weights(tmp_path):
    provide_weights(needing("nowhere.npz"), open_storage(str(tmp_path)))
    assert not list(tmp_path.iterdir())


def test_a_source_that_cannot_be_used_is_named(tmp_path, monkeypatch):
    run = open_storage(str(tmp_path / "run"))

    def refused(source, message):
        with pytest.raises(UserError, match=message) as error:
            provide_weights(needing(source, vgg22=1.0), run)
        assert "\n" not in str(error.value)
        assert "pass a .npz or .h5 file" in str(error.value)

    refused(tmp_path / "none.npz", r"none\.npz: does not read: No such file")
    (tmp_path / "text.npz").write_text("text")
    refused(tmp_path / "text.npz", r"text\.npz: is no file of weights")
    (tmp_path / "text.h5").write_text("text")
    refused(tmp_path / "text.h5", r"text\.h5: is no file of weights")
    buffer = io.BytesIO()
    np.savez(buffer, **{"block1_conv1/kernel": np.zeros((3, 3, 3, 64), np.float32)})
    (tmp_path / "part.npz").write_bytes(buffer.getvalue())
    refused(tmp_path / "part.npz", r"part\.npz: lacks block1_conv1/bias")
    flipped = bytearray(buffer.getvalue())
    flipped[len(flipped) // 2] ^= 1
    array = io.BytesIO()
    np.save(array, np.zeros(3, np.float32))
    for damaged in (buffer.getvalue()[:900], flipped, b"", array.getvalue()):
        (tmp_path / "damaged.npz").write_bytes(damaged)
        refused(tmp_path / "damaged.npz", r"damaged\.npz: is no file of weights")

    monkeypatch.setattr("srgan.vgg_weights.KERAS_FOLDER", str(tmp_path))
    monkeypatch.setattr(vgg_weights, "_URL", (tmp_path / "none.h5").as_uri())
    refused("imagenet", r"vgg_weights imagenet: Keras could not download them \(.*No such file")
    assert run.list() == []


def test_imagenet_is_downloaded_without_building_a_network(tmp_path, monkeypatch):
    """The driver does it, which must not make Keras open its GPUs."""
    weights = random_weights("vgg22")
    write_h5(tmp_path / "keras.h5", weights)
    content = (tmp_path / "keras.h5").read_bytes()
    monkeypatch.setattr("srgan.vgg_weights.KERAS_FOLDER", str(tmp_path))
    monkeypatch.setattr(vgg_weights, "_URL", (tmp_path / "keras.h5").as_uri())
    monkeypatch.setattr(vgg_weights, "_MD5", hashlib.md5(content).hexdigest())
    monkeypatch.setattr(keras.Layer, "__new__", None)
    run = open_storage(str(tmp_path / "run"))
    provide_weights(needing("imagenet", vgg22=1.0), run)
    kept = read_vgg_weights(run)
    assert kept.keys() == weights.keys()
    assert all(np.array_equal(kept[key], value) for key, value in weights.items())
    assert (tmp_path / "models" / "keras.h5").read_bytes() == content


def test_imagenet_is_the_file_that_keras_names():
    module = inspect.getmodule(keras.applications.VGG19)
    assert module.WEIGHTS_PATH_NO_TOP == vgg_weights._URL
    assert vgg_weights._MD5 in inspect.getsource(keras.applications.VGG19)
