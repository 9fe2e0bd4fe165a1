"""Which epoch is the best: by hand-made score files, without a network."""

import logging

import pytest

from data_pipeline.platform.errors import UserError
from data_pipeline.platform.hashing import sha256_hex
from data_pipeline.platform.storage import open_storage
from jobs.evaluate import main
from srgan.best import best_epoch, read_best
from srgan.evaluation.benchmark import folder_benchmark
from srgan.evaluation.best_by import choose_best
from srgan.evaluation.results import RunEvaluation, on_same_images
from srgan.evaluation.run_reader import open_run
from srgan.evaluation.score_files import BASELINES, ScoreFile
from srgan.evaluation.table import ImageScore
from srgan.run_layout import generator_key

NAN = float("nan")
FINE = {"psnr_y": 30.0, "lpips": 0.3}


@pytest.fixture
def run(tmp_path):
    run = open_storage(str(tmp_path / "run"))
    run.write("config.yaml", b"phases: {gan: {epochs: 9, losses: {mse: 1}}}")
    run.write("dataset.json", b'{"uri": "d", "manifest_sha256": "a", "scale": 4, "kernel": null}')
    return run


def chosen(run, epochs, measure, srresnet=None):
    """Chooses from scores, `{epoch: [values of an image, ...]}`; returns best.json."""
    images = next(iter(epochs.values()), [FINE])
    folder = open_storage(f"{run.uri}/../set")
    for number in range(len(images)):
        folder.write(f"{number}.png", b"not read")
    benchmark = folder_benchmark(folder.uri, None, scale=4, kernel="matlab")

    def file(name, method, epoch, rows):
        scores = [ImageScore(epoch, method, str(at), row) for at, row in enumerate(rows)]
        return ScoreFile(name, {}, sha256_hex(name.encode()), scores)

    files = [file(BASELINES, "bicubic", None, [FINE] * len(images))]
    files += [file(f"epoch-{one:04}", "srgan", one, rows) for one, rows in epochs.items()]
    if srresnet:
        files.append(file("srresnet", "srresnet", None, srresnet))
    by_name = {one.name: one for one in files}
    evaluation = RunEvaluation("run", run, open_run(run.uri), {}, by_name, {})
    choose_best(on_same_images([evaluation])[0], benchmark, measure)
    return read_best(run)


def test_the_direction_is_the_measures_own_and_ties_go_to_the_earlier():
    means = {25: 0.2, 50: 0.1, 75: 0.1, 100: 0.3}
    assert best_epoch(means, higher_is_better=False) == 50
    assert best_epoch(means, higher_is_better=True) == 100
    assert best_epoch({9: 1.0, 5: 1.0}, higher_is_better=True) == 5


def test_best_by_psnr_and_by_lpips(run):
    epochs = {
        25: [{"psnr_y": 31.0, "lpips": 0.2}, {"psnr_y": 29.0, "lpips": 0.3}],
        50: [{"psnr_y": 30.0, "lpips": 0.1}, {"psnr_y": 29.0, "lpips": 0.2}],
    }
    best = chosen(run, epochs, "psnr_y")
    assert (best.epoch, best.value, best.unit) == (25, 30.0, "dB")
    best = chosen(run, epochs, "lpips")
    assert (best.epoch, best.value, best.unit) == (50, pytest.approx(0.15), "")
    assert best.sha256 == sha256_hex(b"epoch-0050")
    assert (best.measure, best.data, best.images, best.left_out) == ("lpips", "set", 2, 0)
    assert best.of_epochs == {25: pytest.approx(0.25), 50: pytest.approx(0.15)}


def test_epochs_are_compared_on_the_same_images_alone(run):
    """Epoch 50 has no LPIPS on an image on which epoch 25 is bad: it counts for neither."""
    epochs = {25: [{"lpips": 0.2}, {"lpips": 0.9}], 50: [{"lpips": 0.3}, {}]}
    best = chosen(run, epochs, "lpips")
    assert (best.epoch, best.value, best.images, best.left_out) == (25, 0.2, 2, 1)
    best = chosen(run, {25: [{}], 50: [{"lpips": 0.3}], 75: [{"lpips": 0.4}]}, "lpips")
    assert best.of_epochs == {50: 0.3, 75: 0.4}


def test_srresnet_is_not_chosen_and_the_log_says_when_it_is_better(run, caplog):
    caplog.set_level(logging.INFO)
    epochs = {25: [{"lpips": 0.2, "psnr_y": 29.0}]}
    before = [{"lpips": 0.4, "psnr_y": 30.0}]
    assert chosen(run, epochs, "lpips", before).epoch == 25
    assert "best of 1 epochs by lpips: epoch 25, 0.2000; written to" in caplog.text
    assert "SRResNet" not in caplog.text
    assert chosen(run, epochs, "psnr_y", before).epoch == 25
    assert "SRResNet has a better PSNR Y; it has no epoch and is not chosen" in caplog.text


@pytest.mark.parametrize(
    ("epochs", "measure", "message"),
    [
        ({}, "lpips", "--best-by lpips: .*run has no epoch with scores yet"),
        ({1: [FINE]}, "niqe", r"--best-by niqe: not measured in .*run; pip install .*perceptual"),
        ({1: [FINE]}, "vgg54", "--best-by vgg54: not measured .*; it needs a run that was trained"),
        ({1: [{"psnr_y": 30.0, "grid": NAN}]}, "grid", "--best-by grid: not measured in .*small"),
    ],
)
def test_without_values_nothing_is_written(epochs, measure, message, run):
    with pytest.raises(UserError, match=message):
        chosen(run, epochs, measure)
    assert run.size("best.json") is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--run", "RUN", "--best-by", "gflops"], "invalid choice: 'gflops'"),
        (["--hr", "HR", "--out", "OUT", "--best-by", "lpips"], "--best-by goes with --run"),
    ],
)
def test_a_wrong_best_by_is_refused(arguments, message, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["evaluate", *arguments])
    with pytest.raises(SystemExit) as raised:
        main()
    assert raised.value.code == 2
    assert message in capsys.readouterr().err


def test_the_key_of_the_generator_is_in_the_file(run):
    chosen(run, {7: [FINE]}, "lpips")
    assert f'"generator": "{generator_key(7)}"' in run.read("best.json").decode()
