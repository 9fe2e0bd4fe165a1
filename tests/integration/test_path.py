"""The whole path as a person runs it: processes, a real Ray, killed half-way and said again."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.conftest import ROOT, photograph
from tests.data_pipeline.test_build import contents

EPOCHS = list(range(1, 9))
CONFIG = """
seed: 1
steps_per_call: 2
generator: {blocks: 1, filters: 8}
batch: {global_batch: 4, hr_crop: 32}
phases:
  pretrain: {epochs: 8, losses: {mse: 1}, learning_rate: {initial: 1e-3, decay: cosine}}
"""


def start(job: str, *arguments) -> subprocess.Popen:
    """Starts a job in a process group of its own, without this process's Ray."""
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    return subprocess.Popen(
        [sys.executable, "-m", f"jobs.{job}", *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(job: str, *arguments) -> str:
    """Runs a job to its end; returns what it printed."""
    process = start(job, *arguments)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return output


def interrupt(process: subprocess.Popen, kind: signal.Signals, condition) -> str:
    """Sends a signal as soon as the condition holds; returns what the job printed."""
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(kind)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == (-kind if kind == signal.SIGKILL else 1), output
    return output


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("config") / "tiny.yaml"
    path.write_text(CONFIG)
    return path


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, small_data, config) -> Path:
    run = tmp_path_factory.mktemp("runs") / "undisturbed"
    output = finish("train", "--config", config, "--data", small_data, "--run", run)
    assert "1 replica(s), 4 per replica, global batch 4" in output
    return run


def epochs(run: Path) -> list[int]:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["epoch"] for line in lines]


def wait_until_still(run: Path) -> int:
    """Epochs in the log once the workers of a killed driver are gone too."""
    done = -1
    while done != len(epochs(run)):
        done = len(epochs(run))
        time.sleep(3)
    return done


def final_arrays(run: Path) -> dict[str, np.ndarray]:
    newest = max((run / "checkpoints").glob("checkpoint_2*"))
    with np.load(newest / "state.npz", allow_pickle=False) as arrays:
        return dict(arrays)


def test_a_run_leaves_what_the_readme_says(undisturbed):
    names = {path.name for path in undisturbed.iterdir()}
    expected = {"config.yaml", "dataset.json", "metrics.jsonl", "samples", "generators"}
    assert names == expected | {"checkpoints"}
    assert epochs(undisturbed) == EPOCHS
    for folder, suffix in (("generators", "keras"), ("samples", "png")):
        found = sorted(path.name for path in (undisturbed / folder).iterdir())
        assert found == [f"epoch-{epoch:04}.{suffix}" for epoch in EPOCHS]
    losses = [json.loads(line) for line in (undisturbed / "metrics.jsonl").read_text().splitlines()]
    assert losses[-1]["mse"] < losses[0]["mse"]
    assert len(list((undisturbed / "checkpoints").glob("checkpoint_2*"))) == 2


def test_said_again_a_finished_run_says_so(undisturbed, small_data, config):
    before = contents(undisturbed)
    output = finish("train", "--config", config, "--data", small_data, "--run", undisturbed)
    assert "all 8 epochs are done already" in output
    assert contents(undisturbed) == before


@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGINT], ids=["kill", "ctrl-c"])
def test_a_stopped_run_goes_on_bit_for_bit(kind, undisturbed, small_data, config, tmp_path):
    run = tmp_path / "run"
    arguments = ["--config", config, "--data", small_data, "--run", run]
    log = run / "metrics.jsonl"
    output = interrupt(
        start("train", *arguments), kind, lambda: log.exists() and len(epochs(run)) >= 2
    )
    if kind == signal.SIGINT:
        assert "interrupted: run the same command again to go on" in output
    done = wait_until_still(run)
    assert done < 8
    output = finish("train", *arguments)
    resumed = int(output.split("starting at step ")[1].split()[0])
    steps = json.loads(log.read_text().splitlines()[0])["step"]
    assert resumed in ((done - 1) * steps, done * steps)
    assert epochs(run) == EPOCHS
    expected, found = final_arrays(undisturbed), final_arrays(run)
    assert expected.keys() == found.keys()
    for key, value in expected.items():
        assert value.tobytes() == found[key].tobytes(), key


def test_a_run_of_another_config_or_data_set_is_refused(undisturbed, small_data, config, tmp_path):
    before = contents(undisturbed)
    arguments = ["--config", config, "--run", undisturbed]
    process = start("train", *arguments, "--data", small_data, "--set", "seed=2")
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "begun with another configuration (seed: 1, now 2); choose another --run" in output
    other = tmp_path / "other"
    finish("prepare", "--source", "samples", "--out", other, "--patch-size", 96, "--stride", 96)
    process = start("train", *arguments, "--data", other)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "has another manifest; choose another --run" in output
    assert contents(undisturbed) == before


def test_training_stops_at_a_damaged_shard(small_data, config, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(small_data, data)
    shard = data / "train" / "00000.arrow"
    content = bytearray(shard.read_bytes())
    content[1000] ^= 1
    shard.write_bytes(content)
    process = start("train", "--config", config, "--data", data, "--run", tmp_path / "run")
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    (error,) = (line for line in output.splitlines() if line.startswith("error: "))
    assert error.startswith(f"error: training failed: {shard}: expected sha256")
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_evaluate_prints_the_table(undisturbed, small_data):
    output = finish("evaluate", "--run", undisturbed, "--data", small_data, "--epochs", "2,4")
    assert "| epoch | nearest | bicubic | SRGAN | HR |" in output
    folder = undisturbed / "evaluation" / "small"
    assert (folder / "psnr.csv").read_text().startswith("epoch,nearest,bicubic,srgan,hr\n2,")


@pytest.fixture
def many_photos(tmp_path) -> Path:
    folder = tmp_path / "many"
    folder.mkdir()
    image = photograph("astronaut.png")
    for number in range(180):  # seconds of work, so that a signal meets some
        shift = number % 60
        crop = image[4 * shift : 4 * shift + 240, 3 * shift : 3 * shift + 240]
        cv2.imwrite(str(folder / f"{number:03}.png"), np.rot90(crop, number // 60))
    return folder


@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGINT], ids=["kill", "ctrl-c"])
def test_a_stopped_prepare_goes_on(kind, photos, many_photos, tmp_path):
    """Stopped after the first finished part; the final bytes equal an undisturbed build's."""
    arguments = ["--source", photos, "--valid-source", many_photos]
    arguments += ["--patch-size", 48, "--stride", 24, "--out"]
    finish("prepare", *arguments, tmp_path / "whole")
    out = tmp_path / "out"
    progress = out / "progress" / "valid"
    interrupt(
        start("prepare", *arguments, out),
        kind,
        lambda: progress.exists() and any(progress.iterdir()),
    )
    assert not (out / "manifest.json").exists()
    process = start(
        "train", "--config", "configs/demo.yaml", "--data", out, "--run", tmp_path / "r"
    )
    assert "holds no manifest.json" in process.communicate(timeout=120)[0]
    assert process.returncode == 2
    finish("prepare", *arguments, out)
    assert contents(out) == contents(tmp_path / "whole")
