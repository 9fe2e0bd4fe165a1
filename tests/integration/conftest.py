"""What the integration tests share."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import PATIENCE
from tests.integration.jobs import end_all, finish
from tests.integration.radosgw import missing_programs, radosgw
from tests.s3_servers import S3Server

CHROMIUM = shutil.which("chromium")

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


@pytest.fixture(autouse=True)
def _no_job_is_left() -> Iterator[None]:
    yield
    end_all()


@pytest.fixture(scope="session")
def config(tmp_path_factory) -> Path:
    """A small experiment of two phases."""
    path = tmp_path_factory.mktemp("config") / "tiny.yaml"
    path.write_text(CONFIG)
    return path


@pytest.fixture(scope="session")
def undisturbed(once, small_data, config) -> Path:
    """A run from its begin to its end by one command."""

    def train(run: Path) -> None:
        output = finish("train", "--config", config, "--data", small_data, "--run", run)
        assert "1 replica(s), 4 per replica, global batch 4" in output
        assert "1 worker(s), each on CPU:0" in output
        assert re.search(
            r"^\(RayTrainWorker pid=\d+\) \d\d:\d\d:\d\d epoch = ", output, re.MULTILINE
        )
        assert re.search(r"^\d\d:\d\d:\d\d goodput ", output, re.MULTILINE)
        for foreign in ("absl::", "oneDNN", "TrainController", "RunConfig", "Traceback", "\x1b"):
            assert foreign not in output, output
        assert re.search(r"about [\d:]+ left \(gan: an estimate\)$", output, re.MULTILINE)
        assert output.endswith(f"next: python -m jobs.evaluate --run {run}\n")

    return once("undisturbed", train)


@pytest.fixture(scope="module")
def ceph_folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("radosgw")


@pytest.fixture(scope="module")
def ceph(ceph_folder) -> Iterator[S3Server]:
    if missing := missing_programs():
        pytest.skip(f"radosgw needs {', '.join(missing)}")
    with radosgw(ceph_folder) as server:
        yield server


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"], timeout=1000 * PATIENCE
        )
        yield started
        started.close()
