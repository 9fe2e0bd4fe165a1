"""LPIPS against an implementation in plain numpy, which shares no code with it but the weights."""

import json
import re
from fnmatch import fnmatch

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from data_pipeline.images import as_rgb
from data_pipeline.imresize import imresize
from srgan import lpips as module
from srgan.evaluation.perceptual import lpips_value
from srgan.lpips import alexnet_lpips, lpips
from srgan.lpips_layers import weight_shapes
from tests.conftest import ROOT, photograph

WEIGHTS = ROOT / "srgan/weights/lpips_alexnet.npz"
TILE = module._TILE


def windows(x, kernel, stride):
    """[h, w, C, kernel, kernel]"""
    return sliding_window_view(x, (kernel, kernel), axis=(0, 1))[::stride, ::stride]


def by_numpy(one, other):
    """Zhang et al. 2018 in float64, layer by layer as torchvision's AlexNet is written down."""
    with np.load(WEIGHTS) as file:
        weights = {name: value.astype(np.float64) for name, value in file.items()}
    total = 0.0
    images = [
        (image / 127.5 - 1 - [-0.030, -0.088, -0.188]) / [0.458, 0.448, 0.450]
        for image in (one, other)
    ]
    layers = [(False, 4, 2), (True, 1, 2), (True, 1, 1), (False, 1, 1), (False, 1, 1)]
    for number, (pools, stride, padding) in enumerate(layers):
        kernel, bias = (weights[f"AlexNet_0.Conv_{number}.{part}"] for part in ("kernel", "bias"))
        if pools:
            images = [windows(x, 3, 2).max(axis=(3, 4)) for x in images]
        edge = (padding, padding)
        padded = (np.pad(x, (edge, edge, (0, 0))) for x in images)
        convolved = (
            np.einsum("hwcij,ijcf->hwf", windows(x, len(kernel), stride), kernel, optimize=True)
            for x in padded
        )
        images = [np.maximum(x + bias, 0) for x in convolved]
        a, b = (x / (np.sqrt((x**2).sum(axis=2, keepdims=True)) + 1e-10) for x in images)
        head = weights[f"NetLinLayer_{number}.Conv_0.kernel"][0, 0, :, 0]
        total += ((a - b) ** 2 @ head).mean()
    return total


def crop(name, height, width):
    photo = photograph(name)
    return np.ascontiguousarray(photo[40 : 40 + height, 60 : 60 + width, ::-1])


def noisy(image, random):
    return image, random.normal(image, 20).clip(0, 255).astype(np.uint8)


def bicubic(image):
    height, width = (side // 4 * 4 for side in image.shape[:2])
    small = imresize(image[:height, :width], 0.25)
    return image[:height, :width], imresize(small, 4)


# Pairs, and their LPIPS by the published weights in full precision.
PAIRS = {
    "noise": (lambda random: random.integers(0, 256, (2, 64, 80, 3), np.uint8), 0.104452),
    "the smallest": (lambda random: random.integers(0, 256, (2, 31, 33, 3), np.uint8), 0.074201),
    "a photograph and bicubic": (lambda _: bicubic(crop("astronaut.png", 161, 130)), 0.279643),
    "another and noise": (lambda random: noisy(crop("chelsea.png", 99, 143), random), 0.341045),
    "two photographs": (
        lambda _: (crop("astronaut.png", 96, 96), crop("chelsea.png", 96, 96)),
        0.788977,
    ),
}


@pytest.mark.parametrize("pair", PAIRS)
def test_it_is_what_plain_numpy_computes(pair):
    make, published = PAIRS[pair]
    one, other = make(np.random.default_rng(0))
    expected = by_numpy(one, other)
    assert expected == pytest.approx(published, abs=1e-4)  # most weights are in half precision
    assert alexnet_lpips(one, other) == pytest.approx(expected, abs=1e-5)
    floats = (image[None].astype(np.float32) / 127.5 - 1 for image in (one, other))
    (whole,) = lpips(*floats, module.alexnet_weights(), "AlexNet")
    assert float(whole) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("tile", "height", "width", "count"),
    [
        (TILE, 37, TILE + 112, 1),  # what is left is not longer than a halo
        (TILE, TILE + 113, 37, 2),
        (TILE, 37, TILE + 128, 2),
        (TILE, 2 * TILE + 129, 37, 3),
        (128, 112, 113, 1),
        (128, 239, 241, 2),
        (128, 369, 240, 3),
        (128, 257, 256, 4),
        (128, 383, 370, 9),
    ],
)
def test_tiles_make_the_value_of_the_whole_image(tile, height, width, count, monkeypatch):
    """Their cores end at multiples of the tile in both axes, with a halo of 112 px."""
    random = np.random.default_rng(height)
    one, other = random.integers(0, 256, (2, height, width, 3), np.uint8)
    # Their distance differs from place to place.
    other[height // 3 :, width // 4 :] = one[height // 3 :, width // 4 :] // 2
    shapes, distances = [], module._distances

    def spy(first, *others):
        shapes.append(first.shape[1:3])
        return distances(first, *others)

    monkeypatch.setattr(module, "_distances", spy)
    monkeypatch.setattr(module, "_TILE", tile)
    found = alexnet_lpips(one, other)
    assert len(shapes) == count
    assert np.max(shapes) <= tile + 2 * 112
    monkeypatch.setattr(module, "_TILE", 1 << 20)
    assert found == pytest.approx(alexnet_lpips(one, other), abs=1e-6)
    assert shapes[count:] == [(height, width)]


def test_the_border_is_cut_equal_images_have_0_and_grey_is_rgb():
    grey = crop("astronaut.png", 70, 70)[..., :1]
    other = np.ascontiguousarray(grey[::-1])
    assert lpips_value(grey, grey, border=4) == {"lpips": 0.0}
    expected = alexnet_lpips(*(as_rgb(image[4:-4, 4:-4]) for image in (grey, other)))
    assert lpips_value(grey, other, border=4) == {"lpips": expected}


@pytest.mark.parametrize("shape", [(38, 64, 3), (64, 38, 1)])
def test_an_image_that_is_too_small_has_no_value(shape):
    image = np.zeros(shape, np.uint8)
    assert lpips_value(image, image + np.uint8(1), border=4) == {}
    assert lpips_value(image, image + np.uint8(1), border=3).keys() == {"lpips"}


def test_the_weights_are_those_of_alexnet_and_small():
    with np.load(WEIGHTS) as file:
        assert {name: value.shape for name, value in file.items()} == weight_shapes("AlexNet")
        exact = {name for name, value in file.items() if value.dtype == np.float32}
        assert all(np.isfinite(value).all() for value in file.values())
        assert all((file[name] >= 0).all() for name in file if name.startswith("NetLin"))
    assert exact >= {name for name in weight_shapes("AlexNet") if "bias" in name or "Lin" in name}
    assert WEIGHTS.stat().st_size < 5.1e6


def test_the_weights_and_their_licences_are_in_the_package():
    """The image and a submitted job have the whole folder: see tests/deploy."""
    settings = (ROOT / "pyproject.toml").read_text().partition("[tool.setuptools.package-data]")[2]
    patterns = json.loads(re.search(r"^srgan = (.*)$", settings, re.M)[1])
    files = {path for path in (ROOT / "srgan").rglob("*") if path.is_file()}
    data = [
        str(path.relative_to(ROOT / "srgan"))
        for path in files
        if path.suffix != ".py" and "__pycache__" not in path.parts
    ]
    assert {"weights/lpips_alexnet.npz", "weights/NOTICE"} <= set(data)
    assert all(any(fnmatch(name, pattern) for pattern in patterns) for name in data)
    notice = (ROOT / "srgan/weights/NOTICE").read_text()
    assert re.search(r"Richard Zhang.*Soumith Chintala", notice, re.S)
