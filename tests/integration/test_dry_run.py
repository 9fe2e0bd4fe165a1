"""`jobs.train --dry-run`: what it tells, what it catches, and that it leaves nothing."""

import re
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from ray.cluster_utils import Cluster

from srgan.vgg import weight_shapes
from tests.conftest import use_server
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
    lines = output.splitlines()
    assert any(
        line.startswith("dry run: 3 steps of every phase work, on 1 worker(s)") for line in lines
    )
    (pretrain,) = (line for line in lines if line.startswith("pretrain: "))
    (gan,) = (line for line in lines if line.startswith("gan: "))
    assert " s, 2 epochs: " in pretrain
    assert " s, 3 epochs: " in gan
    assert int(gan.split()[1]) == int(pretrain.split()[1]) * 3 // 2
    assert any(line.startswith("storage: 3 checkpoints of ") for line in lines)
    assert files(tmp_path) == set()


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
    assert "file: is a file; pass a folder" in refusal(*usual)


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
