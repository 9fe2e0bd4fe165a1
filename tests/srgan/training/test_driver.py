"""What the driver does before anything starts."""

import subprocess
import sys

import numpy as np
import pytest

from data_pipeline.manifest import require_manifest
from data_pipeline.platform.errors import UserError
from data_pipeline.platform.storage import open_storage
from srgan.config import Config
from srgan.training.driver import check_run
from tests.conftest import ROOT
from tests.integration.guarded_job import LOADED
from tests.srgan.session import config
from tests.srgan.test_network_losses import lpips_weights
from tests.srgan.test_vgg import random_weights, write_h5

# The driver as `jobs.train` calls it; Ray alone is left out.
DRIVER = """
import sys
from contextlib import nullcontext
from pathlib import Path
from unittest import mock
from srgan.training.resources import Node
from srgan.config_file import load_config
from srgan.training.driver import train
from tests.integration.guarded_job import check_modules
data, weights, lpips, run = sys.argv[1:]
settings = [f"vgg_weights={weights}", "batch.hr_crop=32", "phases.pretrain.losses.vgg22=1.0e-3"]
settings += [f"lpips_weights={lpips}", "phases.pretrain.losses.lpips=1"]
with (
    mock.patch("srgan.training.ray_workers.fit") as fit,
    mock.patch("data_pipeline.platform.cluster.ray_session", nullcontext),
    mock.patch("srgan.training.resources.cluster_nodes", lambda: [Node(2, 0)]),
):
    train(load_config(Path("configs/demo.yaml"), settings), data, run)
fit.assert_called_once()
check_modules()
print("prepared")
import tensorflow  # which must not go unseen
check_modules()
"""


@pytest.fixture
def check(small_data, tmp_path):
    """Checks a RUN that holds these generators and no checkpoint."""

    def check(*generators, epochs=1):
        run = open_storage(str(tmp_path / "run"))
        for name in generators:
            run.write(f"generators/{name}.keras", b"stored")
        data = open_storage(str(small_data))
        experiment = config("float32", "true")
        phases = {
            name: phase.model_copy(update={"epochs": epochs})
            for name, phase in experiment.phases.items()
        }
        experiment = experiment.model_copy(update={"phases": phases})
        return check_run(experiment, data, run, require_manifest(data))

    return check


@pytest.mark.parametrize(
    ("generators", "epochs"),
    [(("pretrain", "epoch-0001"), 1), (("epoch-0001",), 1), (("pretrain",), 2)],
)
def test_generators_whose_checkpoints_are_lost_are_not_trained_over(check, generators, epochs):
    with pytest.raises(UserError) as error:
        check(*generators, epochs=epochs)
    assert f"/run: holds generators (generators/{min(generators)}.keras) but no" in str(error.value)
    assert "put its checkpoints back, or choose another --run" in str(error.value)


def test_a_warm_up_longer_than_its_phase_is_refused(small_data, tmp_path):
    data = open_storage(str(small_data))
    manifest = require_manifest(data)
    steps = manifest.num_patches // 8
    run = open_storage(str(tmp_path / "run"))
    check_run(config("float32", "true", warmup=steps), data, run, manifest)
    with pytest.raises(UserError) as error:
        check_run(config("float32", "true", warmup=steps + 1), data, run, manifest)
    assert str(error.value) == (
        f"phases.pretrain.learning_rate.warmup_steps {steps + 1}: the phase has only {steps} "
        "steps; lower it, or make the phase longer"
    )


def test_lpips_needs_its_weights_and_crops_that_are_large_enough(small_data, tmp_path):
    data = open_storage(str(small_data))
    manifest, run = require_manifest(data), open_storage(str(tmp_path / "run"))

    def refusal(crop: int, weights: str | None) -> str:
        losses = {"phases": {"gan": {"steps": 1, "losses": {"lpips": 1.0}}}}
        settings = losses | {"lpips_weights": weights, "batch": {"hr_crop": crop}}
        with pytest.raises(UserError) as error:
            check_run(Config.model_validate(settings), data, run, manifest)
        return str(error.value)

    assert refusal(12, "w.npz") == "batch.hr_crop 12: losses.lpips needs 16 or more"
    assert refusal(16, None) == (
        "losses.lpips: needs the weights of LPIPS's VGG16; pass a .npz file as lpips_weights, see "
        "docs/train.md"
    )


def test_a_kill_before_the_first_checkpoint_loses_nothing(check):
    _, position = check("pretrain")
    assert position is None


@pytest.mark.parametrize("suffix", ["npz", "h5"])
def test_it_imports_no_tensorflow(suffix, small_data, tmp_path):
    """With weights for the content loss and LPIPS too, which it reads and copies."""
    weights, run = tmp_path / f"weights.{suffix}", tmp_path / "run"
    np.savez(tmp_path / "lpips.npz", **lpips_weights())
    if suffix == "npz":
        np.savez(weights, **random_weights("vgg22"))
    else:
        write_h5(weights, random_weights("vgg22"))
    command = [sys.executable, "-c", DRIVER, small_data, weights, tmp_path / "lpips.npz", run]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.stdout == "prepared\n", result.stderr
    assert result.returncode == LOADED
    assert {path.name for path in run.glob("*.npz")} == {"vgg19.npz", "lpips_vgg16.npz"}
