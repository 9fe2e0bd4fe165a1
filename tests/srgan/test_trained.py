"""Generators of a RUN and of a file, for people's own programs."""

import json

import cv2
import keras
import numpy as np
import pytest

from data_pipeline.images import decode_image
from data_pipeline.platform.errors import UserError
from data_pipeline.platform.hashing import sha256_hex
from data_pipeline.platform.storage import open_storage
from srgan import load_generator
from srgan.best import Best, read_best, write_best
from srgan.evaluation.benchmark import folder_benchmark
from srgan.evaluation.run_reader import find_generators, open_run
from srgan.evaluation.score_task import ScoreTask, score_image
from srgan.generator_file import save_generator
from srgan.networks import generator
from srgan.run_layout import generator_key
from srgan.upscale import super_resolve
from tests.conftest import new_bucket, photograph, use_server

CONFIG = b"generator: {blocks: 1, filters: 4}\nphases: {gan: {epochs: 2, losses: {mse: 1}}}\n"
LR = np.ascontiguousarray(photograph("chelsea.png")[:20, :31, ::-1])


def make_run(uri):
    """A RUN with generators of the epochs 9 and 10, and one of an earlier phase."""
    run = open_storage(str(uri))
    run.write("config.yaml", CONFIG)
    run.write("dataset.json", b'{"uri": "d", "manifest_sha256": "a", "scale": 4, "kernel": null}')
    keras.utils.set_random_seed(0)
    for key in (generator_key(9), generator_key(10), "generators/pretrain.keras"):
        save_generator(generator(blocks=1, filters=4), run, key)
    return run


def best_of(run, epoch=9, **changes):
    sha256 = sha256_hex(run.read(generator_key(epoch)))
    values = {9: 0.25, 10: 0.5}
    best = Best(epoch, sha256, "lpips", 0.25, "", "set", 3, 0, values, "2026-01-31T03:12:45Z")
    return best._replace(**changes)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Tests must not change it, but for its best.json."""
    return make_run(tmp_path_factory.mktemp("trained") / "run")


def test_the_newest_epoch_a_number_the_best_and_a_file(run):
    write_best(run, best_of(run))
    newest = load_generator(run.uri)
    assert (newest.name, newest.scale) == ("epoch-0010", 4)
    assert newest.sha256 == sha256_hex(run.read(generator_key(10)))
    ninth = load_generator(run.uri, 9)
    assert ninth.name == "epoch-0009"
    assert load_generator(run.uri, "best").sha256 == ninth.sha256 != newest.sha256
    file = load_generator(f"{run.uri}/generators/epoch-0009.keras")
    assert file[1:] == ninth[1:]
    stored = keras.saving.load_model(f"{run.uri}/{generator_key(9)}", compile=False)
    sr = file.upscale(LR)
    assert sr.shape == (80, 124, 3)
    assert sr.std() > 1
    np.testing.assert_array_equal(sr, super_resolve(stored, LR))
    np.testing.assert_array_equal(sr, ninth.upscale(LR))
    assert np.any(sr != newest.upscale(LR))


def test_a_run_and_a_file_of_a_bucket(moto, monkeypatch):
    use_server(monkeypatch, moto)
    run = make_run(f"s3://{new_bucket(moto)}/run")
    found = load_generator(run.uri)
    assert found.name == "epoch-0010"
    assert load_generator(f"{run.uri}/{generator_key(10)}").sha256 == found.sha256


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 4, 3), np.float32),
    ],
)
def test_another_array_is_refused(array, run):
    with pytest.raises(ValueError, match=r"expected uint8 \[h, w, 3\] RGB, got"):
        load_generator(run.uri).upscale(array)


def test_what_is_missing_is_named(run, tmp_path):
    empty = open_storage(str(tmp_path / "empty"))
    with pytest.raises(UserError, match=r"empty: lacks config\.yaml; pass a RUN or a \.keras"):
        load_generator(empty.uri)
    empty.write("config.yaml", CONFIG)
    with pytest.raises(UserError, match="empty: holds no generator yet; train on"):
        load_generator(empty.uri)
    empty.write("generators/pretrain.keras", run.read("generators/pretrain.keras"))
    with pytest.raises(UserError, match=r"train on, or pass .*empty/generators/pretrain\.keras"):
        load_generator(empty.uri)
    with pytest.raises(UserError, match=r"run: holds no generator of epoch 7; it has \[9, 10\]"):
        load_generator(run.uri, 7)
    with pytest.raises(UserError, match=r"other\.keras: no such generator; look at the path"):
        load_generator(f"{run.uri}/other.keras")
    with pytest.raises(UserError, match=r"epoch-0009\.keras: is a file.*leave the epoch out"):
        load_generator(f"{run.uri}/{generator_key(9)}", 9)
    with pytest.raises(UserError, match=r"config\.yaml: is no \.keras file; pass one, or a RUN"):
        load_generator(f"{run.uri}/config.yaml")
    run.write("broken.keras", run.read(generator_key(9))[:-100])
    with pytest.raises(UserError, match=r"broken\.keras: is no generator that Keras can load"):
        load_generator(f"{run.uri}/broken.keras")


def test_the_best_must_be_the_file_that_was_compared(run, caplog):
    if run.size("best.json") is not None:
        run.delete("best.json")
    with pytest.raises(UserError, match=r"run: has no best\.json; run python -m jobs\.evaluate --"):
        load_generator(run.uri, "best")
    write_best(run, best_of(run, sha256="0" * 64))
    with pytest.raises(UserError, match=r"0009\.keras: was written anew since.*--best-by lpips ag"):
        load_generator(run.uri, "best")
    write_best(run, best_of(run, of_epochs={9: 0.25}))
    assert load_generator(run.uri, "best").name == "epoch-0009"
    assert "best is epoch 9 by lpips; epoch 10 was never compared; run python" in caplog.text
    caplog.clear()
    write_best(run, best_of(run))
    load_generator(run.uri, "best")
    assert not caplog.text
    assert read_best(run) == best_of(run)
    assert json.loads(run.read("best.json"))["generator"] == "generators/epoch-0009.keras"
    run.write("best.json", run.read("best.json")[:-20])
    with pytest.raises(UserError, match=r"run/best\.json: is damaged; run python"):
        load_generator(run.uri, "best")
    write_best(run, best_of(run)._replace(epoch=8))
    with pytest.raises(UserError, match=r"epoch-0008\.keras: no such generator; run python -m job"):
        load_generator(run.uri, "best")


@pytest.mark.parametrize("options", [{}, {"global_skip": True, "direct_upsampling": True}])
def test_a_run_in_bfloat16_gives_the_picture_of_its_evaluation(options, tmp_path):
    """To the byte: both compute in float32, by the same network and windows."""
    run = open_storage(str(tmp_path / "run"))
    settings = {"blocks": 1, "filters": 4, **options}
    phases = {"gan": {"epochs": 1, "losses": {"mse": 1}}}
    config = {"generator": settings, "phases": phases}  # JSON is YAML
    run.write("config.yaml", json.dumps(config).encode())
    run.write("dataset.json", b'{"uri": "d", "manifest_sha256": "a", "scale": 4, "kernel": null}')
    keras.utils.set_random_seed(0)
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        save_generator(generator(**settings), run, generator_key(1))
    finally:
        keras.config.set_dtype_policy("float32")
    images = open_storage(str(tmp_path / "set"))
    hr = np.ascontiguousarray(photograph("chelsea.png")[:240, :300, ::-1])
    images.write("chelsea.png", cv2.imencode(".png", hr[..., ::-1])[1].tobytes())
    benchmark = folder_benchmark(images.uri, None, scale=4, kernel="matlab")
    opened, out = open_run(run.uri), open_storage(str(tmp_path / "out"))
    (file,) = find_generators(opened)
    score_image(ScoreTask(benchmark, opened, file, out, is_pictured=False, cpus=1))
    stored = decode_image(out.read("sr/epoch-0001/chelsea.png"))
    sr = load_generator(run.uri).upscale(benchmark.pair(0).lr)
    np.testing.assert_array_equal(sr, stored)
    kept = keras.saving.load_model(f"{run.uri}/{generator_key(1)}", compile=False)
    assert np.any(super_resolve(kept, benchmark.pair(0).lr) != stored)
