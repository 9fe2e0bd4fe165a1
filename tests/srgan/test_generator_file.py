"""Generators as files: an older version's gives what it gave, another model is refused."""

import io
import json
import tarfile
import zipfile

import keras
import numpy as np
import pytest

from data_pipeline.images import decode_image
from data_pipeline.platform.errors import UserError
from data_pipeline.platform.storage import open_storage
from srgan.generator_file import read_generator
from srgan.generator_scale import stored_scale
from srgan.upscale import super_resolve
from tests.conftest import ROOT


def test_a_model_that_is_no_generator_is_named(tmp_path):
    image = keras.Input((8,))
    keras.Model(image, keras.layers.Dense(2)(image)).save(tmp_path / "other.keras")
    with pytest.raises(UserError, match=r"other\.keras: maps .* so it is no generator"):
        read_generator(open_storage(str(tmp_path)), "other.keras")


@pytest.mark.parametrize(
    ("generator", "made"), [("epoch-0001", "epoch-0001"), ("pretrain", "srresnet")]
)
def test_a_generator_of_commit_5456114_makes_the_image_that_it_made(generator, made, tmp_path):
    """But for float32's rounding on another machine: one level."""
    with tarfile.open(ROOT / "tests/data/made_by_5456114.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    network = read_generator(open_storage(str(tmp_path)), f"run/generators/{generator}.keras")
    lr, stored = (
        decode_image((tmp_path / key).read_bytes())
        for key in ("arrow/valid/lr_x4/chelsea.png", f"run/evaluation/arrow/sr/{made}/chelsea.png")
    )
    sr = super_resolve(network, lr)
    assert np.abs(sr.astype(int) - stored).max() <= 1
    assert np.mean(sr != stored) < 0.01


@pytest.mark.parametrize(
    "layers",
    [
        [{"class_name": "PixelShuffle"}],
        [{"class_name": "PixelShuffle", "config": []}],
        [{"class_name": "PixelShuffle", "config": {"factor": "two"}}],
        [{}],
        ["layer"],
        7,
    ],
)
def test_a_file_of_another_structure_has_no_scale(layers):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("config.json", json.dumps({"config": {"layers": layers}}))
    assert stored_scale(file.getvalue()) is None


def test_a_file_that_does_not_unpack_has_no_scale():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", json.dumps({"config": {"layers": list(range(99))}}))
    damaged = bytearray(file.getvalue())
    damaged[45:60] = b"\xff" * 15
    assert stored_scale(bytes(damaged)) is None
