"""`jobs.train --dry-run`: what it tells, what it catches, and that it leaves nothing."""

import re
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from ray.cluster_utils import Cluster

from jobs import train
from srgan.training.dry_run import measure
from srgan.vgg_layers import weight_shapes
from tests.conftest import assert_refused, new_bucket, s3_client, use_server
from tests.integration.jobs import finish, refusal, start


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.fixture
def given(small_data, config, tmp_path) -> list:
    return ["--config", config, "--data", small_data, "--run", tmp_path / "run", "--dry-run"]


@pytest.mark.slow
def test_it_tells_what_a_run_takes_and_leaves_nothing(given, tmp_path):
    output = finish("train", *given)
    lines = dict(line.split(": ", 1) for line in output.splitlines() if ": " in line)
    assert "on 1 worker(s) with" in lines["dry run"]
    timed = [int(one) for one in re.findall(r"(\d+) of \w+", lines["dry run"])]
    assert len(timed) == 2
    assert all(5 <= one <= 52 for one in timed)  # the workers agree a step later
    assert output.endswith("next: the same command without --dry-run\n")
    counts = []
    for phase in ("pretrain", "gan"):
        steps, *seconds = re.match(
            r"(\d+) steps of ([\d.e-]+) s \(two standard errors: ([\d.e-]+) to ([\d.e-]+) s\): ",
            lines[phase],
        ).groups()
        mean, low, high = map(float, seconds)
        assert 0 < low <= mean <= high
        counts.append(int(steps))
    assert counts[1] * 2 == counts[0] * 3  # 2 epochs and 3
    assert re.fullmatch(r"[\d.]+ [MG]B of a worker's host", lines["memory"])
    assert re.fullmatch(
        r"[\d.]+ [kM]B: 3 checkpoints of [\d.]+ [kM]B, 3 generators of [\d.]+ kB, at most 5 sample "
        r"pictures of [\d.]+ kB",
        lines["storage"],
    )
    assert "for the SR images of all 3 epochs" in lines["evaluation"]
    assert files(tmp_path) == set()


@pytest.mark.slow
@pytest.mark.usefixtures("ray_local")
def test_one_epoch_tells_what_the_start_and_a_save_take(given, command, tmp_path, monkeypatch):
    """The end of an epoch saves after its record: a dry run of one epoch has no other save."""
    config = tmp_path / "one.yaml"
    config.write_text(
        "generator: {blocks: 1, filters: 8}\nbatch: {global_batch: 4, hr_crop: 32}\n"
        "phases: {pretrain: {steps: 200, losses: {mse: 1}}}\n"
    )
    costs = []
    monkeypatch.setattr(
        "srgan.training.dry_run.measure", lambda run: costs.append(measure(run)) or costs[0]
    )
    done = command(train, "--config", config, *given[2:])
    assert done.code == 0, done
    (cost,) = costs
    assert cost.save_seconds > 0
    assert cost.begin_seconds > max(cost.step_seconds["pretrain"])


@pytest.mark.slow
def test_a_bucket_and_a_finished_run_stay_as_they_are(
    moto, small_data, config, command, monkeypatch
):
    use_server(monkeypatch, moto)
    client, bucket = s3_client(moto), new_bucket(moto)
    for key in ("other", "fresher/x", "fresh/notes.txt"):
        client.put_object(Bucket=bucket, Key=key, Body=b"mine")

    def stored():
        found = client.list_objects_v2(Bucket=bucket)["Contents"]
        return [(one["Key"], one["ETag"]) for one in found]

    given = ["--config", config, "--data", small_data, "--run", f"s3://{bucket}/fresh"]
    given += ["--set", "phases.pretrain={steps: 2, losses: {mse: 1}}"]
    given += ["--set", "phases.gan={steps: 2, losses: {mse: 1, adversarial: 1.0e-3}}"]
    before = stored()
    assert "gan: 2 steps of " in finish("train", *given, "--dry-run")
    assert stored() == before  # no folder's marker either
    output = finish("train", *given)
    assert output.endswith(f"next: python -m jobs.evaluate --run s3://{bucket}/fresh\n")
    before = stored()
    assert command(train, *given, "--dry-run").out == output[output.index("s3://") :]
    assert stored() == before


@pytest.mark.usefixtures("ray_local")
def test_without_vgg_weights_or_room_it_says_so_and_leaves_nothing(given, command, tmp_path):
    def refused(message: str, *more) -> None:
        assert_refused(command(train, *given, *more), message)

    loss = ["--set", "phases.gan.losses.vgg22=1.0e-3", "--set"]
    refused("none.npz: does not read", *loss, f"vgg_weights={tmp_path / 'none.npz'}")
    shapes = weight_shapes("vgg22")
    shapes["block2_conv2/kernel"] = (3, 3, 64, 128)
    weights = tmp_path / "weights.npz"
    np.savez(weights, **{key: np.zeros(shape, np.float32) for key, shape in shapes.items()})
    message = "block2_conv2/kernel has shape [3, 3, 64, 128], expected [3, 3, 128, 128]"
    refused(message, *loss, f"vgg_weights={weights}")
    refused("4 worker(s)", "--num-workers", 4, "--gpus-per-worker", 1)
    refused("3 GPU(s) each are asked for, this machine is", "--gpus-per-worker", 3)
    refused("no-data: holds no manifest.json", "--data", tmp_path / "no-data")
    (tmp_path / "file").write_bytes(b"")
    refused("cannot write", "--run", tmp_path / "file" / "run")
    assert files(tmp_path) == {"weights.npz", "file"}


@pytest.mark.slow
def test_a_node_whose_tensorflow_sees_no_gpu_does_not_train_on_its_cpu(given):
    """Ray is told of a GPU; TensorFlow finds none, as without its CUDA libraries."""
    if tf.config.list_physical_devices("GPU"):
        pytest.skip("this machine has one")
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 2, "num_gpus": 1, "include_dashboard": False},
    )
    try:
        error = refusal(start("train", *given[:-1], address=cluster.address))
    finally:
        cluster.shutdown()
    assert re.search(
        r"node [\d.]+: Ray assigned 1 GPU\(s\), TensorFlow sees 0: no NVIDIA driver", error
    )


@pytest.mark.slow
def test_credentials_that_are_wrong_and_a_bucket_that_is_not_there(moto, given, monkeypatch):
    use_server(monkeypatch, moto)
    nowhere = [*given, "--run", "s3://none-of-these/run"]
    assert "s3://none-of-these" in refusal(start("train", *nowhere))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert "credentials" in refusal(start("train", *nowhere))


@pytest.mark.slow
@pytest.mark.usefixtures("ray_local")
def test_a_step_that_is_not_finite_is_found_in_a_minute(given, command, tmp_path):
    hot = ["--set", "phases.pretrain.learning_rate.initial=1.0e+30"]
    done = command(train, *given, *hot)
    assert done.code == 1
    assert "at step" in done.error
    assert "in phase pretrain" in done.error
    assert files(tmp_path) == set()
