"""LPIPS as a loss: its value, its gradient, and where its weights come from."""

import re
import sys
from functools import cache
from types import SimpleNamespace
from typing import NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf

from data_pipeline.platform.errors import UserError
from data_pipeline.platform.storage import open_storage
from srgan.config import Config
from srgan.lpips import lpips
from srgan.lpips_layers import trunk_flops, weight_shapes
from srgan.network_losses import lpips_loss, network_losses
from srgan.networks import generator
from srgan.training.device_facts import phase_flops
from srgan.training.state import Networks
from srgan.vgg import extractor_flops
from srgan.vgg_weights import provide_weights, read_vgg_weights
from tests.conftest import ROOT
from tests.srgan.test_vgg import convolve

SHAPES = weight_shapes("VGG16")


@cache
def lpips_weights() -> dict[str, np.ndarray]:
    """Random arrays: kernels that keep the features' size, heads that are not negative."""
    draw = np.random.default_rng(1)
    weights = {}
    for key, shape in SHAPES.items():
        if "Lin" in key:
            values = draw.uniform(0, 0.1, shape)
        else:
            values = draw.normal(0, np.sqrt(2 / np.prod(shape[:-1] or (90,))), shape)
        weights[key] = values.astype(np.float32)
    return weights


def distance(one: np.ndarray, other: np.ndarray, weights: dict[str, np.ndarray]) -> float:
    """Zhang et al. 2018, eq. 1, of two images in [-1, 1], in numpy and float64."""
    shift, scale = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
    pair = [(image - shift) / scale for image in (one, other)]
    total, number = 0.0, 0
    for stage, convolutions in enumerate((2, 2, 3, 3, 3)):
        if stage:
            pair = [
                x.reshape(x.shape[0] // 2, 2, x.shape[1] // 2, 2, -1).max(axis=(1, 3)) for x in pair
            ]
        for _ in range(convolutions):
            kernel, bias = (weights[f"VGG16_0.Conv_{number}.{part}"] for part in ("kernel", "bias"))
            pair = [convolve(x, kernel, bias) for x in pair]
            number += 1
        first, second = (
            x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-10) for x in pair
        )
        head = weights[f"NetLinLayer_{stage}.Conv_0.kernel"][0, 0, :, 0]
        total += np.mean((first - second) ** 2 @ head.astype(np.float64))
    return total


@pytest.fixture
def pair() -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(2)
    hr = draw.uniform(-1, 1, (1, 16, 16, 3))
    return hr, np.clip(hr + draw.normal(0, 0.2, hr.shape), -1.1, 1.1)


def test_it_is_lpips_and_has_its_gradient(pair):
    """Against differences of an independent computation in float64, along three directions."""
    hr, sr = pair
    weights = lpips_weights()
    loss = lpips_loss(weights)
    variable = tf.Variable(sr, dtype=tf.float32)

    @tf.function
    def value_and_gradient():
        with tf.GradientTape() as tape:
            value = loss(hr, variable)
        return value, tape.gradient(value, variable)

    value, gradient = value_and_gradient()
    assert value.dtype == tf.float32
    assert value.shape == (1,)
    np.testing.assert_array_equal(loss(hr, sr), lpips(hr, sr, weights, "VGG16"))
    np.testing.assert_allclose(value[0], distance(hr[0], sr[0], weights), rtol=1e-4)
    draw = np.random.default_rng(3)
    for direction in (np.asarray(gradient)[0], *draw.normal(0, 1, (2, 16, 16, 3))):
        step = 1e-6 * direction / np.linalg.norm(direction)
        ahead, behind = (distance(hr[0], sr[0] + one, weights) for one in (step, -step))
        slope = np.sum(np.asarray(gradient)[0] * step) / np.linalg.norm(step)
        expected = (ahead - behind) / (2 * np.linalg.norm(step))
        np.testing.assert_allclose(slope, expected, atol=1e-3 * np.linalg.norm(gradient))


@pytest.mark.parametrize("factor", [1, 0])
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_equal_images_have_no_distance_and_no_gradient(pair, factor, policy):
    """Also where all features are 0, whose length has no derivative."""
    weights = {key: factor * value for key, value in lpips_weights().items()}
    loss = in_policy(policy, weights)
    variable = tf.Variable(pair[0], dtype=tf.float32)
    with tf.GradientTape() as tape:
        value = loss(pair[0], variable)
    np.testing.assert_array_equal(value, [0])
    np.testing.assert_array_equal(tape.gradient(value, variable), np.zeros(pair[0].shape))


def in_policy(policy: str, weights: dict[str, np.ndarray]):
    keras.config.set_dtype_policy(policy)
    keras.config.set_floatx("float64" if policy == "float64" else "float32")
    try:
        return lpips_loss(weights)
    finally:
        keras.config.set_floatx("float32")
        keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize(("policy", "most"), [("mixed_bfloat16", 0.03), ("float64", 0)])
def test_it_is_float32_under_any_policy(pair, policy, most):
    """bfloat16 has 8 bits, and 13 convolutions round one after the other."""
    expected = lpips_loss(lpips_weights())(*pair)
    found = in_policy(policy, lpips_weights())(*pair)
    assert keras.backend.standardize_dtype(found.dtype) == "float32"
    difference = abs(float(found[0] / expected[0]) - 1)
    assert (0 < difference < most) if most else difference == 0


def test_flops_are_those_of_vgg16s_layers():
    widths = [(1, 3, 64), (1, 64, 64), (2, 64, 128), (2, 128, 128), (4, 128, 256)]
    widths += 2 * [(4, 256, 256)] + [(8, 256, 512)] + 2 * [(8, 512, 512)] + 3 * [(16, 512, 512)]
    expected = sum(2 * 9 * (96 // part) ** 2 * ins * outs for part, ins, outs in widths)
    assert trunk_flops("VGG16", 96) == expected


def test_a_phase_counts_the_networks_of_its_losses():
    """By batch; a network that compares takes three passes."""
    phases = {
        name: {"steps": 1, "losses": {"mse": 1.0} | losses}
        for name, losses in (
            ("plain", {}),
            ("lpips", {"lpips": 1.0}),
            ("both", {"lpips": 1.0, "vgg22": 1e-4}),
        )
    }
    config = Config.model_validate({"phases": phases, "batch": {"global_batch": 4}})
    found = phase_flops(Networks(generator(blocks=1), None, None), config, scale=4)
    of_lpips = 4 * 3 * trunk_flops("VGG16", 96)
    assert found["lpips"] - found["plain"] == of_lpips
    assert found["both"] - found["lpips"] == 4 * 3 * extractor_flops("vgg22", 96)


def needing_lpips(source: object) -> Config:
    phase = {"steps": 1, "losses": {"lpips": 1.0}}
    return Config.model_validate({"lpips_weights": str(source), "phases": {"gan": phase}})


def test_a_run_keeps_its_weights(tmp_path):
    source, run = tmp_path / "published.npz", open_storage(str(tmp_path / "run"))
    more = {"NetLinLayer_9.Conv_0.kernel": np.zeros(3, np.float32)}
    np.savez(source, **lpips_weights(), **more)
    config = needing_lpips(source)
    provide_weights(config, run)
    source.unlink()
    provide_weights(config, run)  # a resume needs the file no more
    assert [item.key for item in run.list()] == ["lpips_vgg16.npz"]
    kept = read_vgg_weights(run, "lpips_vgg16.npz")
    assert kept.keys() == SHAPES.keys()
    for key, value in kept.items():
        np.testing.assert_array_equal(value, lpips_weights()[key])
    assert list(network_losses(config, run)) == ["lpips"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"VGG16_0.Conv_12.bias": None}, "lacks VGG16_0.Conv_12.bias, which lpips needs"),
        (
            {"VGG16_0.Conv_0.kernel": np.zeros((64, 3, 3, 3), np.float32)},
            r"VGG16_0.Conv_0.kernel has shape \[64, 3, 3, 3\], expected \[3, 3, 3, 64\]",
        ),
        (
            {"NetLinLayer_4.Conv_0.kernel": np.full((1, 1, 512, 1), np.inf, np.float32)},
            "NetLinLayer_4.Conv_0.kernel holds values that are not finite",
        ),
    ],
)
def test_weights_that_cannot_be_used_are_named(change, message, tmp_path):
    weights = {key: value for key, value in (lpips_weights() | change).items() if value is not None}
    np.savez(tmp_path / "w.npz", **weights)
    run = open_storage(str(tmp_path / "run"))
    with pytest.raises(UserError, match=rf"w\.npz: {message}; pass a \.npz file .* lpips_weights"):
        provide_weights(needing_lpips(tmp_path / "w.npz"), run)
    assert run.list() == []
    with pytest.raises(ValueError, match=message):
        lpips_loss(weights)
    with pytest.raises(UserError, match=r"none\.npz: does not read: .*; pass a \.npz file"):
        provide_weights(needing_lpips(tmp_path / "none.npz"), run)


def test_the_documented_lines_convert_what_pytorch_has(tmp_path, monkeypatch):
    """The lines themselves, with `torch.load` of random state dicts in PyTorch's layout."""

    class Tensor(NamedTuple):
        values: np.ndarray

        def numpy(self) -> np.ndarray:
            return self.values

    weights = lpips_weights()
    kernels = {
        key: value.transpose(3, 2, 0, 1) for key, value in weights.items() if value.ndim == 4
    }
    vgg16, heads = {"classifier.0.weight": Tensor(np.zeros((2, 2)))}, {}
    for number, layer in enumerate((0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)):
        name = f"VGG16_0.Conv_{number}"
        vgg16[f"features.{layer}.weight"] = Tensor(kernels[f"{name}.kernel"])
        vgg16[f"features.{layer}.bias"] = Tensor(weights[f"{name}.bias"])
    for stage in range(5):
        heads[f"lin{stage}.model.1.weight"] = Tensor(kernels[f"NetLinLayer_{stage}.Conv_0.kernel"])
    files = {"vgg16-397923af.pth": vgg16, "vgg.pth": heads}
    torch = SimpleNamespace(load=lambda path, weights_only: files[path])
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.chdir(tmp_path)
    (lines,) = re.findall(r"```\n(import numpy.*?)```", (ROOT / "docs/train.md").read_text(), re.S)
    exec(lines, {})
    with np.load("lpips_vgg16.npz") as found:
        assert set(found.files) == set(SHAPES)
        for key, value in weights.items():
            np.testing.assert_array_equal(found[key], value)
