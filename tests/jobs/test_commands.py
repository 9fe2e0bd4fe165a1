"""The commands as a person types them, above all the wrong ones: one line, exit code 2."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from jobs import evaluate, prepare, train
from jobs.command import run
from tests.conftest import ROOT

DEMO = str(ROOT / "configs" / "demo.yaml")


@pytest.fixture
def command(monkeypatch, capsys):
    """Runs a job's main in this process; returns its exit code and its stderr lines."""

    def call(job, *arguments):
        monkeypatch.setattr(sys, "argv", ["job", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            run(job.main)
        return stop.value.code, capsys.readouterr().err.splitlines()

    return call


def assert_refused(result, *parts):
    code, lines = result
    errors = [line for line in lines if line.startswith("error: ")]
    assert code == 2, lines
    assert len(errors) == 1, lines
    assert "Traceback" not in "".join(lines)
    for part in parts:
        assert part in errors[0]


def files(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def test_prepare_missing_folder(command, tmp_path):
    result = command(prepare, "--source", tmp_path / "none", "--out", tmp_path / "out")
    assert_refused(result, f"{tmp_path}/none: no such folder; pass a folder of images")
    assert files(tmp_path) == []


def test_prepare_empty_folder(command, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("no image")
    result = command(prepare, "--source", tmp_path / "empty", "--out", tmp_path / "out")
    assert_refused(result, "empty: holds no image (.png, .jpg, .jpeg, .bmp)")
    assert files(tmp_path) == ["empty"]


@pytest.mark.usefixtures("ray_local")
def test_prepare_an_image_that_does_not_decode(command, tmp_path, photos):
    source = tmp_path / "source"
    shutil.copytree(photos, source)
    (source / "bad.png").write_bytes((source / "camera.png").read_bytes()[:1000])
    arguments = ["--source", source, "--out", tmp_path / "out", "--patch-size", 48, "--stride", 24]
    assert_refused(
        command(prepare, *arguments), "bad.png: does not decode", "mend that and run it again"
    )
    assert not (tmp_path / "out" / "manifest.json").exists()
    (source / "bad.png").unlink()
    assert command(prepare, *arguments)[0] == 0


def test_prepare_wrong_arguments(command, tmp_path):
    assert_refused(command(prepare, "--source", "samples"), "--out")
    result = command(prepare, "--source", "samples", "--out", tmp_path / "x", "--format", "zip")
    assert_refused(result, "--format", "'zip'")
    result = command(prepare, "--source", "samples", "--out", tmp_path / "x", "--stride", 7)
    assert_refused(result, "--stride 7: must be a multiple of the scale 4")
    result = command(prepare, "--source", "s3x://b/p", "--out", tmp_path / "x")
    assert_refused(result, "s3x:// is not supported")
    assert files(tmp_path) == []


def test_train_unknown_key(command, tmp_path, small_data):
    result = command(
        train,
        *("--config", DEMO, "--data", small_data, "--run", tmp_path / "run"),
        *("--set", "generator.block=4"),
    )
    assert_refused(result, "unknown key generator.block; did you mean generator.blocks?")
    assert files(tmp_path) == []


def test_train_data_without_manifest(command, tmp_path, photos):
    result = command(train, "--config", DEMO, "--data", photos, "--run", tmp_path / "run")
    assert_refused(result, "holds no manifest.json", "jobs.prepare")
    assert files(tmp_path) == []


def test_train_crops_larger_than_patches(command, tmp_path, small_data):
    result = command(
        train,
        *("--config", DEMO, "--data", small_data, "--run", tmp_path / "run"),
        *("--set", "batch.hr_crop=64"),
    )
    assert_refused(result, "batch.hr_crop 64: is larger than the patches", "(48)")
    assert files(tmp_path) == []


def test_train_a_batch_larger_than_the_data_set(command, tmp_path, small_data):
    result = command(
        train,
        *("--config", DEMO, "--data", small_data, "--run", tmp_path / "run"),
        *("--set", "batch.hr_crop=32", "--set", "batch.global_batch=999"),
    )
    assert_refused(result, "batch.global_batch 999", "holds only")
    assert files(tmp_path) == []


@pytest.mark.usefixtures("ray_local")
def test_train_more_gpus_than_there_are(command, tmp_path, small_data):
    result = command(
        train,
        *("--config", DEMO, "--data", small_data, "--run", tmp_path / "run"),
        *("--set", "batch.hr_crop=32", "--gpus-per-worker", 3),
    )
    assert_refused(result, "--gpus-per-worker 3: the largest node has 0 GPUs")
    result = command(
        train,
        *("--config", DEMO, "--data", small_data, "--run", tmp_path / "run"),
        *("--set", "batch.hr_crop=32", "--gpus-per-worker", -1),
    )
    assert_refused(result, "--gpus-per-worker -1")
    assert files(tmp_path) == []


def test_evaluate_wrong_arguments(command, tmp_path, photos, small_data):
    assert_refused(command(evaluate, "--out", tmp_path / "x"), "--data --hr")
    assert_refused(command(evaluate, "--hr", photos), "--out is missing")
    result = command(evaluate, "--data", small_data, "--lr", photos, "--out", tmp_path / "x")
    assert_refused(result, "--lr goes with --hr")
    result = command(evaluate, "--data", photos, "--out", tmp_path / "x")
    assert_refused(result, "holds no manifest.json")
    result = command(evaluate, "--data", small_data, "--run", tmp_path / "none")
    assert_refused(result, "holds no generator")
    result = command(evaluate, "--hr", photos, "--out", tmp_path / "x", "--epochs", "5,ten")
    assert_refused(result, "5,ten: expected epochs")
    result = command(evaluate, "--hr", photos, "--out", tmp_path / "x", "--epochs", "5")
    assert_refused(result, "--epochs goes with --run")
    assert files(tmp_path) == []


def test_evaluate_lr_that_does_not_match(command, tmp_path, photos):
    result = command(evaluate, "--hr", photos, "--lr", photos, "--out", tmp_path / "x")
    assert_refused(result, "astronaut.png (96x96, RGB) is not 4 times", "(99x97, RGB)")
    (tmp_path / "lr").mkdir()
    shutil.copy(photos / "camera.png", tmp_path / "lr")
    result = command(evaluate, "--hr", photos, "--lr", tmp_path / "lr", "--out", tmp_path / "x")
    assert_refused(result, "lr: holds no LR image for", "astronaut.png")
    assert files(tmp_path) == ["lr"]


def test_as_a_process(tmp_path):
    """The same through the interpreter: the exit code and the streams are the process's."""
    arguments = ["--source", str(tmp_path / "none"), "--out", str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, "-m", "jobs.prepare", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == f"error: {tmp_path}/none: no such folder; pass a folder of images\n"
