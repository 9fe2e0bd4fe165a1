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
import tensorflow as tf

from data_pipeline.platform.storage import open_storage
from srgan.training.checkpoint import newest_checkpoint, newest_position
from tests.conftest import ROOT, photograph
from tests.data_pipeline.prepare.test_build import contents
from tests.srgan.session import assert_same_bytes

EPOCHS = [("pretrain", 1), ("pretrain", 2), ("gan", 1), ("gan", 2), ("gan", 3)]
CONFIG = """
seed: 1
steps_per_call: 2
generator: {blocks: 1, filters: 8}
discriminator: {filters: 4, dense: 8}
batch: {global_batch: 4, hr_crop: 32}
phases:
  pretrain: {epochs: 2, losses: {mse: 1}, learning_rate: {initial: 1e-3, decay: cosine}}
  gan:
    epochs: 3
    losses: {mse: 1, adversarial: 1e-3}
    learning_rate: {initial: 1e-3, decay: drop}
checkpoints: {every_steps: 10}
"""


def start(job: str, *arguments, address: str | None = None) -> subprocess.Popen:
    """Starts a job in a process group of its own, without this process's Ray."""
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    if address:
        environment["RAY_ADDRESS"] = address
    return subprocess.Popen(
        [sys.executable, "-m", f"jobs.{job}", *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(job: str, *arguments, address: str | None = None) -> str:
    """Runs a job to its end; returns what it printed."""
    process = start(job, *arguments, address=address)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return output


def wait_until(process: subprocess.Popen, condition, *, seconds: float) -> None:
    """Waits for a condition that a job has to meet while it runs."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def interrupt(process: subprocess.Popen, kind: signal.Signals, condition) -> str:
    """Sends a signal as soon as the condition holds; returns what the job printed."""
    wait_until(process, condition, seconds=120)
    process.send_signal(kind)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == (-kind if kind == signal.SIGKILL else 1), output
    return output


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, small_data, config) -> Path:
    run = tmp_path_factory.mktemp("runs") / "undisturbed"
    output = finish("train", "--config", config, "--data", small_data, "--run", run)
    assert "1 replica(s), 4 per replica, global batch 4" in output
    assert "1 worker(s), each on CPU:0" in output
    return run


def records(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def last_step(run: Path) -> int:
    position = newest_position(open_storage(str(run)))
    return position.step if position else 0


def wait_until_still(run: Path) -> int:
    """The last step that is saved once the workers of a killed driver are gone too."""
    step = -1
    while step != last_step(run):
        step = last_step(run)
        time.sleep(3)
    return step


def assert_same_end(run: Path, expected: Path) -> None:
    """Same arrays to the last byte, same lines in the log but for times and speeds."""
    one, other = (newest_checkpoint(open_storage(str(folder))) for folder in (run, expected))
    assert one.position == other.position
    assert_same_bytes(other.arrays, one.arrays)
    measured = ("time", "seconds", "per_second", "bytes")
    lines, expected_lines = (
        [
            {key: value for key, value in record.items() if not any(m in key for m in measured)}
            for record in records(folder)
        ]
        for folder in (run, expected)
    )
    assert len(lines) == len(expected_lines)
    for line, expected_line in zip(lines, expected_lines, strict=True):
        assert line.pop("phase") == expected_line.pop("phase")
        assert line == pytest.approx(expected_line, rel=1e-12)


def test_a_run_leaves_what_the_readme_says(undisturbed):
    names = {path.name for path in undisturbed.iterdir()}
    expected = {"config.yaml", "dataset.json", "metrics.jsonl", "samples", "generators"}
    assert names == expected | {"checkpoints", "tensorboard"}
    assert [(line["phase"], line["epoch"]) for line in records(undisturbed)] == EPOCHS
    generators = sorted(path.name for path in (undisturbed / "generators").iterdir())
    assert generators == [*(f"epoch-000{epoch}.keras" for epoch in (1, 2, 3)), "pretrain.keras"]
    samples = sorted(path.name for path in (undisturbed / "samples").iterdir())
    assert samples == [
        *(f"epoch-000{epoch}.png" for epoch in (1, 2, 3)),
        *(f"pretrain-000{epoch}.png" for epoch in (1, 2)),
    ]
    first, last = records(undisturbed)[:2]  # of the pretrain phase
    assert last["mse"] < first["mse"]
    for name in ("validation_psnr_y", "bicubic_psnr_y", "peak_host_bytes", "seconds_per_step"):
        assert last[name] > 0
    assert first["bicubic_psnr_y"] == last["bicubic_psnr_y"] > 20
    checkpoints = [path for path in (undisturbed / "checkpoints").iterdir() if path.is_dir()]
    assert len(checkpoints) == 3
    for folder in checkpoints:
        assert sorted(path.name for path in folder.iterdir()) == ["checkpoint.json", "state.npz"]


def test_tensorboard_reads_the_log(undisturbed):
    files = sorted((undisturbed / "tensorboard").iterdir())
    lines = records(undisturbed)
    for file, line in zip(files, lines, strict=True):
        head, event = (
            tf.compat.v1.Event.FromString(record.numpy())
            for record in tf.data.TFRecordDataset(str(file))
        )
        assert head.file_version == "brain.Event:2"
        assert (event.step, event.wall_time) == (line["step"], line["time"])
        found = {value.tag: value.simple_value for value in event.summary.value}
        for name in ("mse", "learning_rate", "validation_psnr_rgb", "shift_red", "epoch"):
            assert found[f"{line['phase']}/{name}"] == pytest.approx(line[name], rel=1e-6)
    assert found["gan/d_sr"] == pytest.approx(lines[-1]["d_sr"], rel=1e-6)


def test_said_again_a_finished_run_says_so(undisturbed, small_data, config):
    before = contents(undisturbed)
    output = finish("train", "--config", config, "--data", small_data, "--run", undisturbed)
    assert "all 5 epochs are done already" in output
    assert contents(undisturbed) == before


def kill_twice(run: Path, arguments: list) -> None:
    """SIGKILL of the driver in each phase, and the same command again until the run's end."""
    for step in (10, 30):
        interrupt(
            start("train", *arguments), signal.SIGKILL, lambda step=step: last_step(run) >= step
        )
        saved = wait_until_still(run)
    output = finish("train", *arguments)
    assert f"starting at step {saved}\n" in output


def test_a_killed_run_goes_on_bit_for_bit(undisturbed, small_data, config, tmp_path):
    """Killed in the pretrain phase, whose end the next attempt passes, and in the gan phase."""
    run = tmp_path / "run"
    kill_twice(run, ["--config", config, "--data", small_data, "--run", run])
    assert_same_end(run, undisturbed)


@pytest.mark.slow
def test_a_killed_run_of_two_workers_goes_on_bit_for_bit(small_data, config, tmp_path):
    arguments = ["--config", config, "--data", small_data, "--num-workers", 2, "--run"]
    finish("train", *arguments, tmp_path / "undisturbed")
    kill_twice(tmp_path / "run", [*arguments, tmp_path / "run"])
    assert_same_end(tmp_path / "run", tmp_path / "undisturbed")


def test_a_second_training_of_a_run_is_refused_while_the_first_lives(
    undisturbed, small_data, config, tmp_path
):
    run = tmp_path / "run"
    arguments = ["--config", config, "--data", small_data, "--run", run]
    first = start("train", *arguments)
    wait_until(first, lambda: any(run.glob("lease/*.json")), seconds=120)
    first.send_signal(signal.SIGSTOP)  # before its workers start, so that it cannot end meanwhile
    second = start("train", *arguments)
    output, _ = second.communicate(timeout=120)
    first.send_signal(signal.SIGCONT)
    assert second.returncode == 2
    (error,) = (line for line in output.splitlines() if line.startswith("error: "))
    assert error.startswith(f"error: {run}: is being trained by process {first.pid} on ")
    output, _ = first.communicate(timeout=300)
    assert first.returncode == 0, output
    assert_same_end(run, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "term"])
def test_a_stopped_run_saves_and_goes_on_bit_for_bit(
    kind, undisturbed, small_data, config, tmp_path
):
    run = tmp_path / "run"
    arguments = ["--config", config, "--data", small_data, "--run", run]
    arguments += ["--set", "checkpoints.every_steps=1000"]  # a run may change how often it saves
    log = run / "metrics.jsonl"
    output = interrupt(start("train", *arguments), kind, log.exists)
    assert "stopping after a checkpoint; once more stops at once" in output
    assert "interrupted: run the same command again to go on" in output
    step = last_step(run)
    assert f"a checkpoint of step {step} is saved" in output
    output = finish("train", *arguments)
    assert f"starting at step {step}\n" in output
    assert_same_end(run, undisturbed)


@pytest.mark.slow
def test_a_second_signal_stops_at_once(small_data, config, tmp_path):
    run = tmp_path / "run"
    process = start("train", "--config", config, "--data", small_data, "--run", run)
    lines = iter(process.stdout)
    while "starting at step" not in next(lines):
        pass
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    output = "".join(lines)
    assert process.wait(timeout=60) == 1
    assert "interrupted: run the same command again to go on" in output
    assert "is saved" not in output


def test_a_run_of_another_config_or_data_set_is_refused(undisturbed, small_data, config, tmp_path):
    before = contents(undisturbed)
    arguments = ["--config", config, "--run", undisturbed]
    process = start("train", *arguments, "--data", small_data, "--set", "seed=2")
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "begun with another configuration (seed: 1, now 2); choose another --run" in output
    for lengths in ("phases.pretrain.epochs=3", "phases.gan.epochs=2"):
        process = start("train", *arguments, "--data", small_data, "--set", lengths)
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 2
        assert ", in phase gan that began with step " in output
        assert "put it elsewhere: change only what lies ahead" in output
    other = tmp_path / "other"
    finish("prepare", "--source", "samples", "--out", other, "--patch-size", 96, "--stride", 96)
    process = start("train", *arguments, "--data", other)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "has another manifest; choose another --run" in output
    assert contents(undisturbed) == before


@pytest.mark.slow
def test_a_finished_run_may_be_made_longer(undisturbed, small_data, config, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(undisturbed, run)
    step = last_step(run)
    arguments = ["--config", config, "--data", small_data, "--run", run]
    output = finish("train", *arguments, "--set", "phases.gan.epochs=4")
    assert f"starting at step {step}\n" in output
    assert [(line["phase"], line["epoch"]) for line in records(run)] == [*EPOCHS, ("gan", 4)]
    assert (run / "generators" / "epoch-0004.keras").exists()


@pytest.mark.slow
def test_a_gan_phase_starts_from_another_runs_generator(undisturbed, small_data, config, tmp_path):
    run = tmp_path / "run"
    only_gan = tmp_path / "gan.yaml"
    text = CONFIG.replace(next(line for line in CONFIG.splitlines() if "pretrain" in line), "")
    only_gan.write_text(text.replace("epochs: 3", "steps: 2"))
    arguments = ["--config", only_gan, "--data", small_data]
    generator = undisturbed / "generators" / "pretrain.keras"
    finish("train", *arguments, "--run", run, "--set", f"initial_generator={generator}")
    finish("train", *arguments, "--run", tmp_path / "scratch")
    started, scratch = records(run)[0], records(tmp_path / "scratch")[0]
    assert started["mse"] < 0.8 * scratch["mse"]
    process = start(
        "train",
        *(*arguments, "--run", tmp_path / "wide", "--set", "generator.filters=16"),
        *("--set", f"initial_generator={generator}"),
    )
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 2
    assert f"error: {generator}: is a generator of another size than the configuration's" in output


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
    output = finish("evaluate", "--run", undisturbed, "--data", small_data, "--epochs", "1,3")
    assert "| epoch | nearest | bicubic | SRGAN | HR |" in output
    folder = undisturbed / "evaluation" / "small"
    assert (folder / "psnr.csv").read_text().startswith("epoch,nearest,bicubic,srgan,hr\n1,")


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


@pytest.mark.parametrize(
    "kind",
    [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.slow)],
    ids=["kill", "ctrl-c"],
)
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
