"""`jobs.train --dry-run`: what it tells, what it catches, and that it leaves nothing."""

import re
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from ray.cluster_utils import Cluster

from data_pipeline.loading.sampling import steps_per_epoch
from data_pipeline.manifest import require_manifest
from data_pipeline.platform.storage import open_storage
from srgan.config_file import load_config
from srgan.training.dry_run import Cost, report, steady_seconds
from srgan.training.phases import plan_phases
from srgan.training.resources import Workers
from srgan.vgg import weight_shapes
from tests.conftest import new_bucket, s3_client, use_server
from tests.integration.test_path import finish, start


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def refusal(*arguments, code: int = 2) -> str:
    process = start("train", *arguments, "--dry-run")
    output, _ = process.communicate(timeout=200)
    assert process.returncode == code, output
    (error,) = (line for line in output.splitlines() if line.startswith("error: "))
    return error


def test_it_tells_what_a_run_takes_and_leaves_nothing(small_data, config, tmp_path):
    output = finish(
        "train", "--config", config, "--data", small_data, "--run", tmp_path / "run", "--dry-run"
    )
    lines = dict(line.split(": ", 1) for line in output.splitlines() if ": " in line)
    assert "on 1 worker(s) with" in lines["dry run"]
    counts = []
    for phase in ("pretrain", "gan"):
        steps, seconds = re.match(r"(\d+) steps of ([\d.e-]+) s: ", lines[phase]).groups()
        assert 0 < float(seconds) < 60
        counts.append(int(steps))
    assert counts[1] * 2 == counts[0] * 3  # 2 epochs and 3
    assert re.fullmatch(r"[\d.]+ [MG]B of a worker's host", lines["memory"])
    assert re.fullmatch(
        r"3 checkpoints of [\d.]+ [kM]B, 3 generators of [\d.]+ kB", lines["storage"]
    )
    assert files(tmp_path) == set()


def test_steps_are_timed_without_the_first_call_of_a_phase():
    usual = {"outside_seconds_per_step": 0.5}
    first = {"phase": "pretrain", "step": 3, "seconds": 12.5, "first_call_seconds": 9.0, **usual}
    assert steady_seconds([first]) == {"pretrain": 1.0}  # (12.5 - 1.5 - 9) / 2
    one_step_an_epoch = [
        {"phase": "pretrain", "step": 1, "seconds": 9.5, "first_call_seconds": 9.0, **usual},
        {"phase": "pretrain", "step": 2, "seconds": 1.5, **usual},
        {"phase": "pretrain", "step": 3, "seconds": 1.5, **usual},
        {"phase": "gan", "step": 6, "seconds": 27.5, "first_call_seconds": 20.0, **usual},
    ]
    assert steady_seconds(one_step_an_epoch) == {"pretrain": 1.0, "gan": 3.0}


def test_what_is_left_of_a_run_is_told_for_all_gpus(small_data, config):
    settings = load_config(config, ["phases.gan={steps: 4000, losses: {mse: 1}}"])
    manifest = require_manifest(open_storage(str(small_data)))
    epoch = steps_per_epoch(manifest.num_patches, settings.batch.global_batch)
    phases = plan_phases(settings.phases, epoch)
    cost = Cost({"pretrain": 0.1, "gan": 0.9}, 2 << 30, 1 << 30, 3_000_000, 500_000)
    lines = report(
        settings,
        phases,
        step=phases[0].stop + 400,
        workers=Workers(least=2, most=2, cpus=1, gpus=4),
        cost=cost,
        manifest=manifest,
    )
    assert "pretrain: 0 steps of 0.1 s: 0:00" in lines
    assert "gan: 3600 steps of 0.9 s: 54:00" in lines
    assert any(line.startswith("time: 54:00 of steps, 7.2 GPU hours; ") for line in lines)
    assert "memory: 2.1 GB of a worker's host, 1.1 GB of each GPU" in lines


@pytest.mark.slow
def test_a_bucket_and_a_finished_run_stay_as_they_are(moto, small_data, config, monkeypatch):
    use_server(monkeypatch, moto)
    monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
    client, bucket = s3_client(moto), new_bucket(moto)
    usual = ["--config", config, "--data", small_data, "--run", f"s3://{bucket}"]
    short = ["--set", "phases.pretrain={steps: 2, losses: {mse: 1}}"]
    short += ["--set", "phases.gan={steps: 2, losses: {mse: 1, adversarial: 1.0e-3}}"]
    output = finish("train", *usual, *short, "--dry-run")
    assert "gan: 2 steps of " in output
    assert "Contents" not in client.list_objects_v2(Bucket=bucket)  # no folder's marker either
    finish("train", *usual, *short)
    before = client.list_objects_v2(Bucket=bucket)["Contents"]
    assert "all 4 steps are done already" in finish("train", *usual, *short, "--dry-run")
    after = client.list_objects_v2(Bucket=bucket)["Contents"]
    assert [(one["Key"], one["ETag"]) for one in after] == [
        (one["Key"], one["ETag"]) for one in before
    ]


@pytest.mark.slow
def test_without_vgg_weights_or_room_it_says_so_and_leaves_nothing(small_data, config, tmp_path):
    usual = ["--config", config, "--data", small_data, "--run", tmp_path / "run"]
    loss = ["--set", "phases.gan.losses.vgg22=1.0e-3", "--set"]
    error = refusal(*usual, *loss, f"vgg_weights={tmp_path / 'none.npz'}")
    assert "none.npz: does not read" in error
    shapes = weight_shapes("vgg22")
    shapes["block2_conv2/kernel"] = (3, 3, 64, 128)
    weights = tmp_path / "weights.npz"
    np.savez(weights, **{key: np.zeros(shape, np.float32) for key, shape in shapes.items()})
    error = refusal(*usual, *loss, f"vgg_weights={weights}")
    assert "block2_conv2/kernel has shape [3, 3, 64, 128], expected [3, 3, 128, 128]" in error
    error = refusal(*usual, "--num-workers", 4, "--gpus-per-worker", 1)
    assert "--num-workers, --gpus-per-worker: 4 worker(s)" in error
    error = refusal(*usual, "--gpus-per-worker", 3)
    assert "3 GPU(s) each are asked for, this machine is" in error
    error = refusal(*usual[:3], tmp_path / "no-data", *usual[4:])
    assert "no-data: holds no manifest.json" in error
    assert files(tmp_path) == {"weights.npz"}


def test_a_place_that_cannot_be_written(small_data, config, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    usual = ["--config", config, "--data", small_data, "--run", tmp_path / "file" / "run"]
    assert "cannot write" in refusal(*usual)


@pytest.mark.slow
def test_a_node_whose_tensorflow_sees_no_gpu_does_not_train_on_its_cpu(
    small_data, config, tmp_path
):
    """Ray is told of a GPU; TensorFlow finds none, as without its CUDA libraries."""
    if tf.config.list_physical_devices("GPU"):
        pytest.skip("this machine has one")
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 2, "num_gpus": 1, "include_dashboard": False},
    )
    try:
        usual = ["--config", config, "--data", small_data, "--run", tmp_path / "run"]
        process = start("train", *usual, address=cluster.address)
        output, _ = process.communicate(timeout=200)
    finally:
        cluster.shutdown()
    assert process.returncode == 2, output
    (error,) = (line for line in output.splitlines() if line.startswith("error: "))
    assert re.search(r"node [\d.]+: Ray assigned 1 GPU\(s\), TensorFlow sees 0; install", error)


@pytest.mark.slow
def test_credentials_that_are_wrong_and_a_bucket_that_is_not_there(
    moto, small_data, config, monkeypatch
):
    use_server(monkeypatch, moto)
    usual = ["--config", config, "--data", small_data, "--run"]
    assert "s3://none-of-these" in refusal(*usual, "s3://none-of-these/run")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert "credentials" in refusal(*usual, "s3://none-of-these/run")


@pytest.mark.slow
def test_a_step_that_is_not_finite_is_found_in_a_minute(small_data, config, tmp_path):
    usual = ["--config", config, "--data", small_data, "--run", tmp_path / "run"]
    hot = ["--set", "phases.pretrain.learning_rate.initial=1.0e+30"]
    error = refusal(*usual, *hot, code=1)
    assert "at step" in error
    assert "in phase pretrain" in error
    assert files(tmp_path) == set()
