import csv
import io
import shutil

import keras
import numpy as np
import pytest

from data_pipeline.errors import UserError
from data_pipeline.images import decode_image
from data_pipeline.storage import open_storage
from srgan.evaluation.benchmark import data_benchmark, folder_benchmark
from srgan.evaluation.comparison import most_detailed_crop
from srgan.evaluation.metrics import score
from srgan.evaluation.run import evaluate
from srgan.evaluation.table import read_scores
from srgan.networks import generator
from srgan.run_layout import generator_key
from srgan.upscale import load_generator, save_generator, super_resolve

CONFIG = b"phases: {gan: {epochs: 2, losses: {mse: 1}}}\n"


@pytest.fixture
def run(tmp_path):
    """A RUN with two generators."""
    storage = open_storage(str(tmp_path / "run"))
    storage.write("config.yaml", CONFIG)
    storage.write("dataset.json", b'{"uri": "somewhere", "manifest_sha256": "abc"}')
    keras.utils.set_random_seed(0)
    for epoch in (1, 2):
        save_generator(generator(blocks=1, filters=4), storage, generator_key(epoch))
    return storage


def rows(storage, key):
    return list(csv.DictReader(io.StringIO(storage.read(key).decode())))


def evaluate_data(small_data, run, **changes):
    arguments = {"run_uri": run.uri, "out_uri": None, "epochs": None, "kernel": "matlab"}
    return open_storage(evaluate(data_benchmark(str(small_data), None), **(arguments | changes)))


def test_tables_hold_the_means_of_the_pictures(small_data, run):
    out = evaluate_data(small_data, run)
    assert out.uri == f"{run.uri}/evaluation/small"
    sr_psnr, sr_ssim = [], []
    for name in ("ihc", "retina", "zgrey"):
        hr = decode_image((small_data / f"valid/hr/{name}.png").read_bytes())
        sr = decode_image(out.read(f"sr/epoch-0002/{name}.png"))
        values = score(hr, sr, border=4)
        sr_psnr.append(values.psnr_rgb)
        sr_ssim.append(values.ssim_y)
    scores = {(row["method"], row["epoch"]): row for row in rows(out, "scores.csv")}
    assert list(scores) == [
        ("nearest", ""),
        ("bicubic", ""),
        ("srgan", "1"),
        ("srgan", "2"),
        ("hr", ""),
    ]
    assert float(scores["srgan", "2"]["psnr_rgb"]) == pytest.approx(np.mean(sr_psnr), abs=1e-4)
    assert float(scores["srgan", "2"]["ssim_y"]) == pytest.approx(np.mean(sr_ssim), abs=1e-4)
    assert scores["hr", ""]["psnr_rgb"] == "inf"
    assert {row["num_images"] for row in scores.values()} == {"3"}
    table = rows(out, "psnr.csv")
    assert list(table[0]) == ["epoch", "nearest", "bicubic", "srgan", "hr"]
    assert [row["epoch"] for row in table] == ["1", "2"]
    assert table[1]["srgan"] == scores["srgan", "2"]["psnr_rgb"]
    assert table[1]["bicubic"] == scores["bicubic", ""]["psnr_rgb"]
    assert table[1]["hr"] == "inf"
    assert f"| 2 | {float(table[1]['nearest']):.2f} |" in out.read("psnr.md").decode()


def test_the_picture_has_four_crops_a_row(small_data, run):
    out = evaluate_data(small_data, run, epochs=[2])
    picture = decode_image(out.read("comparison/epoch-0002.png"))
    crop = 2 * 100  # the validation images are 100 pixels wide, shown twice as large
    rows_height = 2 * (28 + crop + 6) + (28 + 2 * 60 + 6)
    assert picture.shape == (rows_height, 4 * crop + 3 * 6, 3)
    hr = decode_image((small_data / "valid/hr/ihc.png").read_bytes())
    np.testing.assert_array_equal(picture[28 : 28 + crop : 2, -crop::2], hr)


def test_only_what_is_new_is_scored(small_data, run, caplog):
    evaluate_data(small_data, run, epochs=[1])
    run.write("generators/epoch-0001.keras", b"fails if it is read again")
    run.write("generators/notes.txt", b"no generator: passed over")
    run.write("config.yaml", CONFIG.replace(b"epochs: 2", b"epochs: 4"))  # a run may grow
    out = evaluate_data(small_data, run)
    assert [row["epoch"] for row in rows(out, "psnr.csv")] == ["1", "2"]
    with caplog.at_level("INFO"):
        evaluate_data(small_data, run)
    assert "already complete" in caplog.text


def test_tables_that_a_kill_left_out_are_made_from_the_scores(small_data, run):
    out = evaluate_data(small_data, run)
    names = ("psnr.csv", "psnr.md", "scores.csv")
    before = {name: out.read(name) for name in names}
    for name in names:
        out.delete(name)
    evaluate_data(small_data, run)
    assert {name: out.read(name) for name in names} == before


def test_scores_of_another_run_or_data_set_are_not_mixed(small_data, run):
    out = evaluate_data(small_data, run)
    run.write("dataset.json", b'{"uri": "somewhere", "manifest_sha256": "other"}')
    with pytest.raises(UserError, match=r"another protocol \(run sha256"):
        evaluate_data(small_data, run)
    run.delete("dataset.json")
    with pytest.raises(UserError, match=r"lacks config\.yaml or dataset\.json; pass a RUN"):
        evaluate_data(small_data, run, out_uri=out.uri)


def test_damaged_scores_are_named(small_data, run):
    out = evaluate_data(small_data, run)
    out.write("images.parquet", out.read("images.parquet")[:-9])
    with pytest.raises(UserError, match=r"images\.parquet: is damaged; delete it"):
        evaluate_data(small_data, run)


def test_a_damaged_validation_image_is_named(small_data, run, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(small_data, data)
    shutil.copy(data / "valid/hr/ihc.png", data / "valid/hr/retina.png")
    with pytest.raises(UserError, match=r"valid/hr/retina\.png: expected sha256 \w+, found \w+"):
        evaluate_data(data, run)


def test_baselines_alone(small_data, tmp_path):
    benchmark = folder_benchmark(str(small_data / "valid/hr"), None, scale=4, kernel="matlab")
    assert benchmark.name == "valid"
    out = open_storage(
        evaluate(
            benchmark, run_uri=None, out_uri=str(tmp_path / "out"), epochs=None, kernel="matlab"
        )
    )
    (row,) = rows(out, "psnr.csv")
    assert (row["epoch"], row["srgan"], row["hr"]) == ("", "", "inf")
    from_data = evaluate(
        data_benchmark(str(small_data), None),
        run_uri=None,
        out_uri=str(tmp_path / "out2"),
        epochs=None,
        kernel="matlab",
    )
    assert rows(open_storage(from_data), "psnr.csv") == [row]


def test_another_kernel_makes_its_own_lr(small_data):
    given = data_benchmark(str(small_data), None).pair(0)
    generated = data_benchmark(str(small_data), "opencv").pair(0)
    np.testing.assert_array_equal(given.hr, generated.hr)
    assert (given.lr != generated.lr).any()


def test_another_protocol_is_refused_and_scores_are_kept(small_data, run):
    out = evaluate_data(small_data, run)
    before = out.read("images.parquet")
    with pytest.raises(UserError, match="kernel: matlab, now opencv"):
        evaluate(
            data_benchmark(str(small_data), "opencv"),
            run_uri=run.uri,
            out_uri=None,
            epochs=None,
            kernel="opencv",
        )
    assert out.read("images.parquet") == before


def test_bad_generators_are_named_and_other_scores_kept(small_data, run):
    whole = run.read("generators/epoch-0002.keras")
    run.write("generators/epoch-0002.keras", whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"epoch-0002\.keras: is no generator"):
        evaluate_data(small_data, run)
    _, scores = read_scores(open_storage(f"{run.uri}/evaluation/small"))
    assert {row.epoch for row in scores} == {None, 1}
    with pytest.raises(UserError, match="no generator of epoch 7"):
        evaluate_data(small_data, run, epochs=[7])


def test_a_model_that_is_no_generator_is_named(run, tmp_path):
    image = keras.Input((8,))
    model = keras.Model(image, keras.layers.Dense(2)(image))
    model.save(tmp_path / "other.keras")
    shutil.copy(tmp_path / "other.keras", f"{run.uri}/generators/epoch-0001.keras")
    with pytest.raises(UserError, match="so it is no generator"):
        load_generator(run, "generators/epoch-0001.keras")


def test_a_generator_of_another_scale_is_named(small_data, run):
    save_generator(generator(scale=2, blocks=1, filters=4), run, generator_key(1))
    with pytest.raises(UserError, match="trained for another scale"):
        evaluate_data(small_data, run)


def test_a_grey_image_is_scored_on_its_own_values(photos, run, tmp_path):
    source = tmp_path / "grey"
    source.mkdir()
    shutil.copy(photos / "camera.png", source)
    benchmark = folder_benchmark(str(source), None, scale=4, kernel="matlab")
    assert benchmark.pair(0).hr.shape == (100, 100, 1)
    out = open_storage(
        evaluate(benchmark, run_uri=run.uri, out_uri=None, epochs=[1], kernel="matlab")
    )
    for row in rows(out, "scores.csv"):
        assert row["psnr_rgb"] == row["psnr_y"]


def test_super_resolve_rounds_to_the_nearest_level():
    """By a network that doubles the contrast: half of its values are beyond [-1, 1]."""
    image = keras.Input((None, None, 3))
    network = keras.Model(image, keras.layers.Rescaling(4, -2.01)(image))
    lr = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    values = lr / np.float64(255) * 4 - 2.01
    expected = np.clip(np.floor((values + 1) * 127.5 + 0.5), 0, 255)
    sr = super_resolve(network, lr)
    assert (sr.min(), sr.max()) == (0, 255)
    np.testing.assert_array_equal(sr, expected)


def test_the_most_detailed_crop_is_found():
    image = np.zeros((300, 400, 3), np.uint8)
    image[128:256, 192:320] = np.random.default_rng(0).integers(0, 256, (128, 128, 3))
    assert most_detailed_crop(image, 128) == (128, 192)
    assert most_detailed_crop(image[:50, :50], 128) == (0, 0)
