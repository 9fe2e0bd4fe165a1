"""Whole evaluations of small RUNs, on a real Ray."""

import csv
import datetime
import io
import json
import re
import shutil
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import cv2
import keras
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_pipeline.images import as_rgb, decode_image
from data_pipeline.imresize import imresize
from data_pipeline.platform.errors import UserError, differences
from data_pipeline.platform.hashing import sha256_hex
from data_pipeline.platform.storage import LocalStorage, Storage, open_storage
from jobs import evaluate as evaluate_job
from srgan import load_generator
from srgan.best import read_best
from srgan.evaluation.alerts import Limit, Limits
from srgan.evaluation.benchmark import data_benchmark, folder_benchmark
from srgan.evaluation.comparison import detail_panels, labelled_row
from srgan.evaluation.evaluate import EvaluationSummary, evaluate
from srgan.evaluation.psnr_ssim import score
from srgan.evaluation.run_reader import find_generators, open_run
from srgan.evaluation.score_files import read_score_files, write_score_file
from srgan.flops import upscaling_gflops
from srgan.generator_file import read_generator, save_generator
from srgan.networks import generator
from srgan.run_layout import generator_key
from srgan.training.validation import ValidationImages
from srgan.vgg import FeatureExtractor
from srgan.vgg_layers import weight_shapes
from tests.conftest import photograph, undated
from tests.web_server import Fault, serve

CONFIG = b"""
generator: {blocks: 1, filters: 4}
phases: {gan: {epochs: 2, losses: {mse: 1}}}
"""


@pytest.fixture(scope="module")
def benchmark(small_data):
    return data_benchmark(str(small_data), None)


@pytest.fixture(scope="module")
def original(tmp_path_factory, benchmark):
    """A RUN with two generators and its evaluation; tests must not change it."""
    storage = open_storage(str(tmp_path_factory.mktemp("original") / "run"))
    storage.write("config.yaml", CONFIG)
    storage.write("dataset.json", b'{"uri": "somewhere", "manifest_sha256": "abc"}')
    keras.utils.set_random_seed(0)
    for epoch in (1, 2):
        save_generator(generator(blocks=1, filters=4), storage, generator_key(epoch))
    evaluated(benchmark, storage)
    return storage


@pytest.fixture
def evaluated_run(original, tmp_path):
    keras.utils.set_random_seed(1)  # for generators that the test makes
    return open_storage(str(shutil.copytree(original.uri, tmp_path / "run")))


@pytest.fixture
def run(evaluated_run):
    """The same without the evaluation."""
    shutil.rmtree(f"{evaluated_run.uri}/evaluation")
    return evaluated_run


def results(run):
    """The evaluation in RUN's own folder."""
    return open_storage(f"{run.uri}/evaluation/small")


def rows(storage, key):
    return list(csv.DictReader(io.StringIO(storage.read(key).decode())))


def evaluated(benchmark, run: Storage | None, **options) -> EvaluationSummary:
    """An evaluation of all epochs, into RUN's own folder."""
    defaults = {"run_uri": run and run.uri, "out_uri": None, "epochs": None}
    return evaluate(benchmark, **(defaults | options))


def results_of(benchmark, run: Storage | None, **options) -> Storage:
    """Where the evaluation's results are."""
    return open_storage(evaluated(benchmark, run, **options).uri)


def test_tables_hold_the_means_of_the_pictures(original, small_data):
    out = results(original)
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


def test_the_best_epoch_is_that_of_the_table(evaluated_run, benchmark):
    with pytest.raises(UserError, match="--best-by vgg54: not measured in"):
        evaluated(benchmark, evaluated_run, best_by="vgg54")
    assert evaluated_run.size("best.json") is None
    evaluated(benchmark, evaluated_run, best_by="psnr_rgb")
    best = read_best(evaluated_run)
    table = {int(row["epoch"]): row["srgan"] for row in rows(results(evaluated_run), "psnr.csv")}
    assert {epoch: f"{mean:.4f}" for epoch, mean in best.of_epochs.items()} == table
    assert best.value == max(best.of_epochs.values())
    assert best.sha256 == sha256_hex(evaluated_run.read(generator_key(best.epoch)))
    assert load_generator(evaluated_run.uri, "best").sha256 == best.sha256


def test_the_picture_has_four_crops_a_row(original, benchmark, small_data):
    out = results(original)
    picture = decode_image(out.read("comparison/epoch-0002.png"))
    crop = 2 * 100  # the validation images are 100 pixels wide, shown twice as large
    rows_height = 2 * (28 + crop + 6) + (28 + 2 * 60 + 6)
    assert picture.shape == (rows_height, 4 * crop + 3 * 6, 3)
    hr = decode_image((small_data / "valid/hr/ihc.png").read_bytes())
    np.testing.assert_array_equal(picture[28 : 28 + crop : 2, -crop::2], hr)
    generated = {"SRResNet": decode_image(out.read("sr/epoch-0002/ihc.png"))}  # no GAN
    row = labelled_row(detail_panels(benchmark.pair(0), benchmark.kernel, generated))
    np.testing.assert_array_equal(picture[: len(row)], row)


def test_only_what_is_new_is_scored(benchmark, run, caplog):
    out = results_of(benchmark, run, epochs=[1])
    first = out.read("scores/epoch-0001.parquet")
    out.delete("sr/epoch-0001/ihc.png")
    run.write("generators/notes.txt", b"no generator: passed over")
    run.write("config.yaml", CONFIG.replace(b"epochs: 2", b"epochs: 4"))  # a run may grow
    assert results_of(benchmark, run).uri == out.uri == results(run).uri
    assert [row["epoch"] for row in rows(out, "psnr.csv")] == ["1", "2"]
    assert out.read("scores/epoch-0001.parquet") == first
    assert out.size("sr/epoch-0001/ihc.png") is None  # nothing of it was made again
    with caplog.at_level("INFO"):
        results_of(benchmark, run)
    assert "already complete" in caplog.text


def test_tables_that_a_kill_left_out_are_made_from_the_scores(benchmark, original, evaluated_run):
    out = results(evaluated_run)
    names = ("psnr.csv", "psnr.md", "scores.csv", "measures.csv", "images.parquet", "report.html")
    before = {
        name: undated(out.read(name)).replace(original.uri.encode(), evaluated_run.uri.encode())
        for name in names
    }
    for name in names:
        out.delete(name)
    results_of(benchmark, evaluated_run)
    assert {name: undated(out.read(name)) for name in names} == before


def test_the_report_has_the_date_of_the_newest_scores(benchmark, evaluated_run):
    """It is stored with them: a copy of the files is as old as they are."""
    out = results(evaluated_run)

    def dates():
        results_of(benchmark, evaluated_run)
        return re.findall("<time.*?>(.*?)</time>", out.read("report.html").decode())

    today = datetime.datetime.now(datetime.timezone.utc).date()
    scored = [file.scored for file in read_score_files(out).values()]
    age = today - datetime.date.fromisoformat(max(scored)[:10])
    assert datetime.timedelta(0) <= age <= datetime.timedelta(1)
    for times in (["2020-01-31T03:12:45Z", "2020-02-01T00:00:00Z", ""], ["", "", ""]):
        for file, time in zip(read_score_files(out).values(), times, strict=True):
            write_score_file(out, file._replace(scored=time))
        assert dates() == [max(times)[:10]][: any(times)]


def test_scores_of_another_run_or_data_set_are_not_mixed(benchmark, evaluated_run):
    out = results(evaluated_run)
    evaluated_run.write("dataset.json", b'{"uri": "somewhere", "manifest_sha256": "other"}')
    with pytest.raises(UserError, match=r"another protocol \(run sha256"):
        results_of(benchmark, evaluated_run)
    evaluated_run.delete("dataset.json")
    with pytest.raises(UserError, match=r"lacks config\.yaml or dataset\.json; pass a RUN"):
        results_of(benchmark, evaluated_run, out_uri=out.uri)


def test_scores_of_files_that_were_decoded_otherwise_are_not_mixed(benchmark, photos, monkeypatch):
    """Files of jobs.prepare decode as ever, so their scores hold."""
    assert "decoding" not in benchmark.with_sha256().protocol()
    folder = folder_benchmark(str(photos), None, scale=4, kernel="matlab").with_sha256()
    now = folder.protocol()
    monkeypatch.setattr("srgan.evaluation.benchmark._DECODING", 1)
    assert differences(folder.protocol(), now) == ["decoding: 1, now 2"]


def test_scores_of_a_version_without_a_measure_are_made_again(benchmark, evaluated_run, caplog):
    """All of them, whatever epochs are asked for; the history stays."""
    out = results(evaluated_run)
    for name, file in read_score_files(out).items():
        key = f"scores/{name}.parquet"
        table = pq.read_table(pa.BufferReader(out.read(key)))
        protocol = {key: text for key, text in file.protocol.items() if key != "Grid"}
        metadata = {**table.schema.metadata, b"protocol": json.dumps(protocol)}
        sink = pa.BufferOutputStream()
        pq.write_table(table.drop_columns("grid").replace_schema_metadata(metadata), sink)
        out.write(key, sink.getvalue().to_pybytes())
    before, history = out.read("measures.csv"), out.list("history/")
    caplog.set_level("INFO")
    evaluated(benchmark, evaluated_run, epochs=[1])
    assert (
        f"{out.uri}: was made by a version with other measures (Grid): scored again" in caplog.text
    )
    assert out.read("measures.csv") == before
    assert {item.key for item in history} <= {item.key for item in out.list("history/")}
    caplog.clear()
    evaluated(benchmark, evaluated_run)
    assert "already complete, nothing to score" in caplog.text


def test_damaged_scores_are_named(benchmark, evaluated_run):
    out = results(evaluated_run)
    whole = out.read("scores/baselines.parquet")
    scores = read_score_files(out)
    damaged = [whole[:-9], whole[: len(whole) // 2], b"", b"PAR1"]
    for place in range(0, len(whole), 37):
        damaged.append(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
    read_anyway = 0
    for data in damaged:
        out.write("scores/baselines.parquet", data)
        with suppress(UserError):  # nothing else may be raised
            # A bit that means nothing, or one of the protocol, which is compared.
            assert read_score_files(out)["baselines"].scores == scores["baselines"].scores
            read_anyway += 1
    assert read_anyway < len(damaged) / 2
    out.write("scores/baselines.parquet", whole[:-9])
    with pytest.raises(UserError, match=r"scores/baselines\.parquet: is damaged; delete it to"):
        results_of(benchmark, evaluated_run)


def test_a_damaged_validation_image_is_named(small_data, run, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(small_data, data)
    shutil.copy(data / "valid/hr/ihc.png", data / "valid/hr/retina.png")
    with pytest.raises(UserError, match=r"valid/hr/retina\.png: expected sha256 \w+, found \w+"):
        evaluated(data_benchmark(str(data), None), run)


def test_baselines_alone(benchmark, small_data, tmp_path):
    folder = folder_benchmark(str(small_data / "valid/hr"), None, scale=4, kernel="matlab")
    assert folder.name == "valid"
    summary = evaluated(folder, None, out_uri=str(tmp_path / "out"))
    assert summary.alerts == []
    out = open_storage(summary.uri)
    page = out.read("report.html").decode()
    assert "Only the baselines are scored: bicubic has " in page
    assert "3 images" in page
    (row,) = rows(out, "psnr.csv")
    assert (row["epoch"], row["srgan"], row["hr"]) == ("", "", "inf")
    hr = rows(out, "measures.csv")[-1]
    assert (hr["method"], hr["lr_psnr"]) == ("hr", "inf")  # LR is made of it
    from_data = results_of(benchmark, None, out_uri=str(tmp_path / "out2"))
    assert rows(from_data, "psnr.csv") == [row]


def test_given_lr_follows_the_rule_of_prepare(photos, tmp_path, caplog):
    """HR is cut to a multiple of the scale, colourless LR fits, LR of other images is named."""
    hr, lr = tmp_path / "hr", tmp_path / "lr"
    for folder in (hr, lr):
        folder.mkdir()
    sides = {"astronaut": 97, "rocket": 96, "camera": 100}
    for name, side in sides.items():
        image = cv2.imread(str(photos / f"{name}.png"))[:side, :side]
        cv2.imwrite(str(hr / f"{name}.png"), image)
        small = image[: side // 4 * 4 : 4, : side // 4 * 4 : 4]
        cv2.imwrite(str(lr / f"{name}x4.png"), small[:, :, 0] if name == "camera" else small)
    arguments = {"scale": 4, "kernel": "matlab"}
    right = folder_benchmark(str(hr), str(lr), **arguments)
    assert [right.pair(number).hr.shape for number in range(3)] == [
        (96, 96, 3),
        (100, 100, 3),
        (96, 96, 3),
    ]
    evaluated(right, None, out_uri=str(tmp_path / "right"))
    assert "may not be of their HR" not in caplog.text
    shutil.copy(lr / "rocketx4.png", lr / "astronautx4.png")
    wrong = folder_benchmark(str(hr), str(lr), **arguments)
    evaluated(wrong, None, out_uri=str(tmp_path / "wrong"))
    assert f"1 LR file(s) may not be of their HR image: {lr}/astronautx4.png is " in caplog.text


def test_pictures_that_a_method_reproduces_are_left_out_and_named(run, command, tmp_path):
    """The job's table, its limit and the training's own validation agree to all digits."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    photo = photograph("astronaut.png")[:64, 200:264]
    board = np.indices((16, 16)).sum(axis=0, dtype=np.uint8) % 2
    for name, picture in {
        "photo": photo,
        "black": np.zeros_like(photo),
        "flat": np.full_like(photo, 99),
        "pixels": (200 * board[..., None] + np.uint8([5, 20, 40])).repeat(4, 0).repeat(4, 1),
    }.items():
        cv2.imwrite(str(folder / f"{name}.png"), picture)
    options = ["--run", run.uri, "--hr", folder, "--kernel", "opencv", "--epochs", "1"]
    done = command(evaluate_job, *options, "--fail-below", "psnr_y=60")
    assert done.code == 3
    note = (
        "PSNR RGB, PSNR Y: the means leave out 3 of 4 images, on which a method other than HR has "
        "no finite value: black, flat, pixels"
    )
    assert note in done.out  # nearest reproduces the pixels, bicubic does not
    out = open_storage(f"{run.uri}/evaluation/pictures")
    assert note in out.read("report.html").decode()
    left_out = json.loads(out.read("protocol.json"))["images left out"]
    assert left_out["psnr_y"] == ["black", "flat", "pixels"]
    raw = pq.read_table(pa.BufferReader(out.read("images.parquet"))).to_pylist()
    exact = {(row["method"], row["image"]) for row in raw if row["psnr_y"] == np.inf}
    assert {("nearest", "pixels"), ("bicubic", "flat")} <= exact
    assert ("bicubic", "pixels") not in exact
    scores = {row["method"]: row for row in rows(out, "measures.csv")}
    benchmark = folder_benchmark(str(folder), None, scale=4, kernel="opencv")
    network = read_generator(run, generator_key(1))
    validation = ValidationImages(benchmark, 9).examine(network)
    assert validation.text.endswith(
        "leaving out 3 of 4 images without a finite PSNR: black, flat, pixels"
    )
    for name, method in (("validation", "srgan"), ("bicubic", "bicubic")):
        for key in ("psnr_rgb", "psnr_y", "ssim_rgb", "ssim_y", "lpips", "grid"):
            assert f"{validation.scores[f'{name}_{key}']:.4f}" == scores[method][key]
    (record,) = rows(out, "history.csv")
    assert record["psnr_y"] == str(validation.scores["validation_psnr_y"])


def test_a_score_that_is_not_a_number_is_left_out(benchmark, evaluated_run, monkeypatch):
    out = results(evaluated_run)
    for file in read_score_files(out).values():
        niqe = [row.values | {"niqe": 5.0 if row.image != "ihc" else np.nan} for row in file.scores]
        scores = [row._replace(values=one) for row, one in zip(file.scores, niqe, strict=True)]
        write_score_file(out, file._replace(scores=scores))
    reads = []

    def read_few_times(storage):
        reads.append(storage)
        assert len(reads) < 5, "NaN is not equal to itself: the tables are written again and again"
        return read_score_files(storage)

    monkeypatch.setattr("srgan.evaluation.results.read_score_files", read_few_times)
    evaluated(benchmark, evaluated_run)
    assert {row["niqe"] for row in rows(out, "measures.csv")} == {"5.0000"}
    assert "NIQE: the means leave out 1 of 3 images" in out.read("psnr.md").decode()


def test_another_kernel_makes_its_own_lr(benchmark, small_data):
    given = benchmark.pair(0)
    generated = data_benchmark(str(small_data), "opencv").pair(0)
    np.testing.assert_array_equal(given.hr, generated.hr)
    assert (given.lr != generated.lr).any()


def test_another_protocol_is_refused_and_scores_are_kept(small_data, evaluated_run):
    out = results(evaluated_run)
    before = out.read("images.parquet")
    with pytest.raises(UserError, match="kernel: matlab, now opencv"):
        evaluated(data_benchmark(str(small_data), "opencv"), evaluated_run)
    assert out.read("images.parquet") == before


def test_bad_generators_are_named_and_the_others_scored(benchmark, run):
    whole = run.read("generators/epoch-0001.keras")
    run.write("generators/epoch-0001.keras", whole[: len(whole) // 2])
    save_generator(generator(blocks=2, filters=4), run, generator_key(3))
    with pytest.raises(
        UserError, match=r"epoch-0001\.keras: is no generator.*; .*epoch-0003"
    ) as error:
        results_of(benchmark, run)
    assert "epoch-0003.keras: is not the generator of config.yaml for images x4" in str(error.value)
    out = results(run)
    assert set(read_score_files(out)) == {"baselines", "epoch-0002"}
    assert [row["epoch"] for row in rows(out, "psnr.csv")] == ["2"]
    with pytest.raises(UserError, match="no generator of epoch 7"):
        results_of(benchmark, run, epochs=[7])


def test_a_grey_image_is_scored_on_its_own_values(photos, run, tmp_path):
    source = tmp_path / "grey"
    source.mkdir()
    shutil.copy(photos / "camera.png", source)
    benchmark = folder_benchmark(str(source), None, scale=4, kernel="matlab")
    assert benchmark.pair(0).hr.shape == (100, 100, 1)
    out = results_of(benchmark, run, epochs=[1])
    for row in rows(out, "scores.csv"):
        assert row["psnr_rgb"] == row["psnr_y"]


def test_a_bad_image_is_named_and_what_was_scored_is_kept(small_data, run, tmp_path):
    folder = tmp_path / "photos"
    shutil.copytree(small_data / "valid/hr", folder)

    def score_folder():
        benchmark = folder_benchmark(str(folder), None, scale=4, kernel="matlab")
        return results_of(benchmark, run, epochs=[1])

    out = score_folder()
    before = contents(out)
    (folder / "ihc.png").write_text("no image")
    (folder / "retina.png").write_bytes(b"")
    with pytest.raises(UserError, match="was made by another protocol"):
        score_folder()
    assert contents(out) == before
    delete_all(out)
    with pytest.raises(UserError, match=r"ihc\.png: does not decode.*; .*retina\.png: does not"):
        score_folder()
    assert not out.list()


@pytest.mark.slow
def test_a_generator_that_was_written_anew_is_scored_again(benchmark, evaluated_run, caplog):
    out = results(evaluated_run)
    before = rows(out, "psnr.csv")
    save_generator(generator(blocks=1, filters=4), evaluated_run, generator_key(2))
    with caplog.at_level("INFO"):
        results_of(benchmark, evaluated_run)
    assert "epoch-0002.keras: was written anew since it was scored" in caplog.text
    after = rows(out, "psnr.csv")
    assert after[0] == before[0]
    assert after[1]["srgan"] != before[1]["srgan"]


def gan_run(uri: str, *, last_epoch: int):
    """A RUN with VGG weights and a generator of its first phase, in its second one."""
    storage = open_storage(uri)
    storage.write("config.yaml", GAN_CONFIG)
    storage.write("dataset.json", b'{"uri": "somewhere", "manifest_sha256": "abc"}')
    draw = np.random.default_rng(0)
    weights = {
        name: draw.normal(0, 0.1, shape).astype(np.float32)
        for name, shape in weight_shapes("vgg22").items()
    }
    np.savez(Path(uri, "vgg19.npz"), **weights)
    keras.utils.set_random_seed(1)
    for key in ("generators/pretrain.keras", *map(generator_key, range(1, last_epoch + 1))):
        save_generator(generator(blocks=1, filters=4), storage, key)
    return storage, weights


GAN_CONFIG = b"""
generator: {blocks: 1, filters: 4}
phases:
  pretrain: {epochs: 1, losses: {mse: 1}}
  gan: {epochs: 2, losses: {vgg22: 1, adversarial: 1.0e-3}}
"""


def test_srresnet_and_measures_by_the_runs_own_vgg(benchmark, small_data, tmp_path):
    run, weights = gan_run(str(tmp_path / "run"), last_epoch=1)
    out = results_of(benchmark, run)
    table = {(row["method"], row["epoch"]): row for row in rows(out, "measures.csv")}
    assert list(table) == [(m, "") for m in ("nearest", "bicubic", "srresnet")] + [
        ("srgan", "1"),
        ("hr", ""),
    ]
    extractor = FeatureExtractor("vgg22", weights)
    distances, consistencies = [], []
    for name in ("ihc", "retina", "zgrey"):
        hr = decode_image((small_data / f"valid/hr/{name}.png").read_bytes())
        lr = decode_image((small_data / f"valid/lr_x4/{name}.png").read_bytes())
        sr = decode_image(out.read(f"sr/srresnet/{name}.png"))
        one, other = (
            np.asarray(extractor(np.float32(as_rgb(image)[None] / 127.5 - 1))) for image in (hr, sr)
        )
        distances.append(np.mean((one - other) ** 2))
        error = imresize(sr, Fraction(1, 4))[2:-2, 2:-2].astype(float) - lr[2:-2, 2:-2]
        consistencies.append(10 * np.log10(255**2 / np.mean(error**2)))
    assert float(table["srresnet", ""]["vgg22"]) == pytest.approx(np.mean(distances), rel=1e-3)
    assert float(table["srresnet", ""]["lr_psnr"]) == pytest.approx(
        np.mean(consistencies), abs=1e-3
    )
    assert table["hr", ""]["vgg22"] == "0.0000"
    network = read_generator(run, "generators/pretrain.keras")
    for (method, _), row in table.items():  # absent, not zero
        assert (row["vgg54"], row["niqe"]) == ("", "")
        has_size = method in ("srresnet", "srgan")
        size = [f"{network.count_params() / 1e6:.4f}", f"{upscaling_gflops(network, 4):.4f}"]
        assert [row["parameters"], row["gflops"]] == (size if has_size else ["", ""])
    assert (table["hr", ""]["lpips"], table["hr", ""]["grid"]) == ("0.0000", "1.0000")
    assert float(table["nearest", ""]["lpips"]) > float(table["bicubic", ""]["lpips"]) > 0.1
    stored = pq.read_table(pa.BufferReader(out.read("images.parquet")))
    assert stored["niqe"].null_count == stored.num_rows == 15
    assert stored["vgg22"].null_count == stored["lpips"].null_count == 0
    markdown = out.read("psnr.md").decode()
    assert "| SRResNet |  |" in markdown
    assert (
        f"generator srresnet: sha256 {sha256_hex(run.read('generators/pretrain.keras'))}"
        in markdown
    )


def test_a_run_without_an_epoch_yet_has_its_baselines(benchmark, tmp_path, caplog):
    run, _ = gan_run(str(tmp_path / "run"), last_epoch=0)
    run.delete("generators/pretrain.keras")
    with caplog.at_level("INFO"):
        out = results_of(benchmark, run)
    assert "no epoch of its last phase is finished yet" in caplog.text
    assert [row["method"] for row in rows(out, "scores.csv")] == ["nearest", "bicubic", "hr"]
    (record,) = rows(out, "history.csv")
    assert (record["epochs"], record["epoch"], record["psnr_y"]) == ("0", "", "")


def test_runs_are_compared_in_one_table(benchmark, run, tmp_path):
    other, _ = gan_run(str(tmp_path / "other"), last_epoch=1)
    summary = evaluated(benchmark, run, epochs=[1], compare=[other.uri])
    assert summary.uri == f"{run.uri}/evaluation/small/compare"
    out = open_storage(summary.uri)
    table = rows(out, "measures.csv")
    assert [(row["run"], row["method"]) for row in table if row["epoch"]] == [
        ("run", "srgan"),
        ("other", "srgan"),
    ]
    alone = rows(open_storage(f"{other.uri}/evaluation/small"), "measures.csv")
    assert [row for row in table if row["run"] == "other"] == [
        {"run": "other", **row} for row in alone
    ]
    assert out.read("psnr.md").decode().startswith(f"{summary.tables}\nProtocol:\n")
    assert "| run | epoch | nearest | bicubic | SR | HR |" in summary.tables
    first, second, *_ = summary.tables.split("\n\n")
    assert first.startswith("run: Epoch 1 ")
    assert second.startswith("other: Epoch 1 ")
    page = out.read("report.html").decode()
    assert "other SRGAN 1" in page
    assert "worst of run SRResNet 1: " in page  # the caption is of the run that is shown
    assert re.findall(r" selected>(.*?)<", page)[:2] == ["bicubic", "run SRResNet 1"]
    assert '<dt class="hash">phases.gan.losses.adversarial</dt>' in page


@pytest.fixture
def of_scale_2(tmp_path):
    """URI of a RUN without generators, of scale 2 and OpenCV's kernel."""
    run, _ = gan_run(str(tmp_path / "two"), last_epoch=0)
    run.delete("generators/pretrain.keras")
    data_set = b'{"uri": "somewhere", "manifest_sha256": "abc", "scale": 2, "kernel": "opencv"}'
    run.write("dataset.json", data_set)
    return run.uri


def test_images_of_another_scale_are_refused_before_anything_is_scored(
    benchmark, run, of_scale_2, small_data
):
    drop = [Limit("psnr_y", 1)]
    other = "leave it out, or name a run of x4"
    for first, options, fix in (
        (of_scale_2, {}, "pass a data set of x2, or HR images by --hr"),
        (run.uri, {"compare": [of_scale_2]}, other),
        (run.uri, {"limits": Limits(drop=drop, reference=of_scale_2)}, other),
    ):
        with pytest.raises(UserError) as error:
            evaluated(benchmark, open_storage(first), **options)
        assert str(error.value) == (
            f"{of_scale_2}: is a run of x2, and {small_data} is scored at x4; {fix}"
        )
        assert not open_storage(first).list("evaluation")


def test_a_kernel_that_is_not_the_runs_is_told_once(photos, of_scale_2, caplog):
    folder = folder_benchmark(str(photos), None, scale=2, kernel="matlab")
    evaluated(folder, open_storage(of_scale_2))
    (record,) = (record for record in caplog.records if "trained on" in record.getMessage())
    assert record.getMessage() == (
        f"{of_scale_2}: was trained on LR of the kernel opencv, and {photos} is scored with the "
        "kernel matlab"
    )


def test_limits_are_told_after_everything_is_written(benchmark, evaluated_run):
    out = results(evaluated_run)
    first, second = (float(row["srgan"]) for row in rows(out, "psnr.csv"))
    drop = Limit("psnr_rgb", first - second - 0.01)
    lower = Limit("psnr_rgb", second + 0.01)

    def alerts(**limits):
        return evaluated(benchmark, evaluated_run, limits=Limits(**limits)).alerts

    assert alerts(below=[Limit("psnr_rgb", second - 0.01)]) == []
    (alert,) = alerts(below=[lower], drop=[Limit("psnr_rgb", 99)])
    assert alert == f"epoch 2: psnr_rgb is {second:.4f}, below {lower.value}"
    assert alerts(below=[lower], drop=[Limit("psnr_rgb", 99)]) == []  # it was told
    (alert,) = alerts(drop=[drop])
    assert alert.startswith(
        f"epoch 2: psnr_rgb is {second:.4f}, {first - second:.4f} less than epoch 1's"
    )
    records = rows(out, "history.csv")
    assert [bool(record["alerts"]) for record in records] == [False, False, True, True, True]
    assert records[-1]["alerts"] == alert
    for record in records:
        assert (record["epochs"], record["epoch"], record["psnr_rgb"]) == ("2", "2", f"{second}")
    times = [record["time"] for record in records]
    assert times == sorted(times)


def test_a_limit_is_told_once_for_a_generator(benchmark, evaluated_run, command, caplog):
    """By exit code, log and webhook, until another generator or another limit is broken."""
    arguments = ["--run", evaluated_run.uri, "--data", benchmark.hr[0].storage.uri]
    out = results(evaluated_run)
    with serve(b"") as server, caplog.at_level("INFO"):
        url = server.url.replace("file.zip", "S3CRET")

        def night(*options):
            caplog.clear()
            server.posts.clear()
            done = command(evaluate_job, *arguments, "--alert-url", url, *options)
            assert "S3CRET" not in caplog.text + done.out + done.err
            return done.code, [json.loads(body) for _, body in server.posts]

        server.fault = Fault("status", status=404)
        code, posts = night("--fail-below", "psnr_y=60")
        assert (code, len(posts)) == (3, 1)
        assert caplog.text.count("the alert is not posted to http://127.0.0.1") == 1
        server.fault = None
        code, (post,) = night("--fail-below", "psnr_y=60")  # so it is not told yet
        assert code == 3
        values = rows(out, "measures.csv")[3]
        (alert,) = post["alerts"]
        assert alert == f"epoch 2: psnr_y is {values['psnr_y']}, below 60"
        assert alert in post["text"]
        assert post["values"]["ssim_y"] == float(values["ssim_y"])
        facts = {"run": evaluated_run.uri, "data_set": "small", "epoch": 2, "results": out.uri}
        assert facts.items() <= post.items()
        assert post["time"][:19] == rows(out, "history.csv")[-1]["time"][:19]

        assert night("--fail-below", "psnr_y=60") == (0, [])
        told = [one for one in caplog.messages if one.startswith("already told on ")]
        assert told == [f"already told on {post['time'][:10]}: {alert}"]
        assert rows(out, "history.csv")[-1]["alerts"] == alert
        code, (post,) = night("--fail-below", "psnr_y=60", "--fail-below", "ssim_y=1")
        assert (code, len(post["alerts"])) == (3, 1)
        assert "ssim_y" in post["alerts"][0]
        keras.utils.set_random_seed(9)
        save_generator(generator(blocks=1, filters=4), evaluated_run, generator_key(3))
        code, (post,) = night("--fail-below", "psnr_y=60")
        assert (code, post["epoch"]) == (3, 3)
        assert night() == (2, [])  # no limit, so the URL would never be used


@pytest.mark.parametrize("earlier", ["no webhook", "a malformed one", "an older version"])
def test_what_was_told_without_a_webhook_is_posted_later(
    benchmark, evaluated_run, command, caplog, monkeypatch, earlier
):
    """By the first evaluation that can; the exit code stays that of a limit that was told."""
    out = results(evaluated_run)

    def night(*limit):
        arguments = ("--run", evaluated_run.uri, "--data", benchmark.hr[0].storage.uri)
        return command(evaluate_job, *arguments, *limit).code

    limit = ("--fail-below", "psnr_y=60")

    monkeypatch.setenv("SRGAN_ALERT_URL", "hooks/S3CRET" if earlier == "a malformed one" else "")
    assert night() == 0
    assert "SRGAN_ALERT_URL" not in caplog.text  # without a limit nothing is posted
    assert night(*limit) == 3
    warnings = [one for one in caplog.messages if one.startswith("SRGAN_ALERT_URL: expected the")]
    assert len(warnings) == (earlier == "a malformed one")
    assert "S3CRET" not in caplog.text
    if earlier == "an older version":
        (*_, item) = out.list("history/")
        record = json.loads(out.read(item.key))
        del record["posted"]
        out.write(item.key, json.dumps(record).encode())
    with serve(b"") as server:
        monkeypatch.setenv("SRGAN_ALERT_URL", server.url)
        server.fault = Fault("status", status=404)
        assert night(*limit) == 0
        server.fault = None
        assert night(*limit) == 0
        assert night(*limit) == 0
    failed, posted = (json.loads(body)["alerts"] for _, body in server.posts)
    assert failed == posted == [rows(out, "history.csv")[-1]["alerts"]]


def test_limits_are_judged_though_a_generator_is_damaged(benchmark, run, caplog):
    run.write("generators/epoch-0001.keras", b"damaged")
    with pytest.raises(UserError, match=r"epoch-0001\.keras: is no generator"):
        evaluated(benchmark, run, limits=Limits(below=[Limit("ssim_y", 2)]))
    assert "alert: epoch 2: ssim_y is" in caplog.text
    (record,) = rows(open_storage(f"{run.uri}/evaluation/small"), "history.csv")
    assert "ssim_y" in record["alerts"]


@pytest.mark.slow
def test_a_drop_can_be_against_another_run(benchmark, evaluated_run, tmp_path):
    out = results(evaluated_run)
    second = rows(out, "psnr.csv")[1]["srgan"]
    other, _ = gan_run(str(tmp_path / "other"), last_epoch=1)
    limits = Limits(drop=[Limit("psnr_rgb", -99)], reference=other.uri)
    (alert,) = evaluated(benchmark, evaluated_run, limits=limits).alerts
    (theirs,) = rows(open_storage(f"{other.uri}/evaluation/small"), "psnr.csv")
    difference = float(theirs["srgan"]) - float(second)
    assert f"is {second}, {difference:.4f} less than other's epoch 1's" in alert


def overtaken(at: str, action):
    """Storage whose write of `at` finds that another process was faster, once."""
    write, done = LocalStorage.write, []

    def write_and_be_overtaken(storage, key, data):
        if key == at and not done:
            done.append(key)
            action()
        write(storage, key, data)

    patch = pytest.MonkeyPatch()
    patch.setattr(LocalStorage, "write", write_and_be_overtaken)
    return patch


def contents(out):
    """All results but the history, which has the time."""
    return {
        item.key: undated(out.read(item.key)) for item in out.list() if "history" not in item.key
    }


def delete_all(out):
    for item in out.list():
        out.delete(item.key)


def test_two_at_once_give_one_table(benchmark, run):
    """The second one adds an epoch while the first one writes its tables."""
    patch = overtaken("scores.csv", lambda: evaluated(benchmark, run, epochs=[2]))
    out = results_of(benchmark, run, epochs=[1])
    patch.undo()
    both = contents(out)
    delete_all(out)
    evaluated(benchmark, run)
    assert contents(out) == both


def test_training_goes_on_while_the_tables_are_written(benchmark, run):
    """It writes a generator anew and a new one, which a second evaluation scores at once."""

    def train_and_evaluate():
        for epoch in (2, 3):
            save_generator(generator(blocks=1, filters=4), run, generator_key(epoch))
        evaluated(benchmark, run)

    patch = overtaken("psnr.csv", train_and_evaluate)
    out = results_of(benchmark, run)
    patch.undo()
    found = contents(out)
    assert [row["epoch"] for row in rows(out, "psnr.csv")] == ["1", "2", "3"]
    delete_all(out)
    evaluated(benchmark, run)
    assert contents(out) == found


def test_scores_of_generators_that_the_run_no_longer_has_are_left_out(
    benchmark, evaluated_run, caplog
):
    """As after a run was deleted, but for its evaluation, and begun anew."""
    out = results(evaluated_run)
    evaluated_run.delete("generators/epoch-0002.keras")
    save_generator(generator(blocks=1, filters=4), evaluated_run, generator_key(1))
    results_of(benchmark, evaluated_run)
    assert "scores/epoch-0002.parquet: left out" in caplog.text
    assert [row["epoch"] for row in rows(out, "psnr.csv")] == ["1"]
    assert rows(out, "history.csv")[-1]["epoch"] == "1"


def test_srresnet_is_what_the_first_adversarial_phase_began_with(tmp_path):
    run, _ = gan_run(str(tmp_path / "run"), last_epoch=1)
    config = GAN_CONFIG.decode() + "  fine: {epochs: 1, losses: {mse: 1, adversarial: 1}}\n"
    run.write("config.yaml", config.encode())
    run.write("generators/gan.keras", b"not read but for its sha256")
    names = [one.key for one in find_generators(open_run(run.uri))]
    assert names == ["generators/pretrain.keras", "generators/epoch-0001.keras"]
    phases = config.replace("  pretrain: {epochs: 1, losses: {mse: 1}}\n", "")
    run.write("config.yaml", phases.encode())
    assert len(find_generators(open_run(run.uri))) == 1
    run.write("initial.keras", b"another run's generator")
    first, _ = find_generators(open_run(run.uri))
    assert (first.name, first.key, first.epoch) == ("srresnet", "initial.keras", None)


@pytest.mark.slow
def test_runs_whose_vgg_weights_differ_are_compared_without(benchmark, run, tmp_path):
    """And a run that is named twice is not compared at all."""
    one, weights = gan_run(str(tmp_path / "one"), last_epoch=1)
    other, _ = gan_run(str(tmp_path / "other"), last_epoch=1)

    def compare(out_uri):
        return results_of(benchmark, one, out_uri=str(out_uri), compare=[other.uri])

    assert all(row["vgg22"] for row in rows(compare(tmp_path / "out"), "measures.csv"))
    assert open_storage(str(tmp_path / "out/compare/other")).size("psnr.csv")  # not in its RUN
    assert not other.list("evaluation")
    np.savez(Path(other.uri, "vgg19.npz"), **{key: 2 * value for key, value in weights.items()})
    table = rows(compare(tmp_path / "again"), "measures.csv")
    assert not any(row["vgg22"] for row in table)
    assert all(row["psnr_y"] for row in table)
    with pytest.raises(UserError, match="names a run twice"):
        results_of(benchmark, run, compare=[run.uri])


def test_a_generator_that_makes_no_numbers_is_named(benchmark, run):
    network = generator(blocks=1, filters=4)
    weights = network.get_weights()
    network.set_weights([np.full_like(weights[0], np.nan), *weights[1:]])
    save_generator(network, run, generator_key(2))
    with pytest.raises(UserError, match="not finite"):
        results_of(benchmark, run)
