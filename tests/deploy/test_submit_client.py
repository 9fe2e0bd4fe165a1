"""What a submitted job takes along."""

import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest
import yaml
from ray._private.runtime_env.packaging import create_package

from deploy.submit import too_large
from tests.conftest import ROOT

EXCLUDES = yaml.safe_load((ROOT / "deploy/runtime_env.yaml").read_text())["excludes"]


@pytest.fixture
def checkout(tmp_path) -> Path:
    """The source, a user's experiment, and what jobs left there."""
    root = tmp_path / "checkout"
    for name in (
        "jobs/train.py",
        "srgan/evaluation/table.py",
        "srgan/evaluation/report.html.j2",
        "data_pipeline/images.py",
        "configs/demo.yaml",
        "experiment.yaml",
        "jobs/__pycache__/train.pyc",
        "configs/.env",
        "README.md",
        "div2k/valid/hr/0801.png",
        "div2k/manifest.json",
        "run/evaluation/div2k/sr/epoch-0001/0801.png",
        "run/generators/epoch-0001.keras",
        "x/y",
        ".venv/bin/python",
        "weights.npz",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"1" * 1000)
    return root


def test_the_source_goes_along_and_nothing_that_jobs_left(checkout, tmp_path):
    create_package(str(checkout), tmp_path / "p.zip", include_gitignore=True, excludes=EXCLUDES)
    assert sorted(ZipFile(tmp_path / "p.zip").namelist()) == [
        "configs/demo.yaml",
        "data_pipeline/images.py",
        "experiment.yaml",
        "jobs/train.py",
        "srgan/evaluation/report.html.j2",
        "srgan/evaluation/table.py",
    ]
    assert too_large(checkout, EXCLUDES) is None


def test_too_much_is_told_with_the_largest_files(checkout):
    for number, megabytes in enumerate((50, 10, 70, 1)):
        with (checkout / f"configs/{number}.h5").open("wb") as file:
            file.truncate(megabytes << 20)
    assert too_large(checkout, EXCLUDES) == (
        f"{checkout}: a job would take 131 MB along, more than 100; the largest are "
        "configs/2.h5 70 MB, configs/0.h5 50 MB, configs/1.h5 10 MB: put them into the bucket"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--address", "http://127.0.0.1:9", "train"], "error: http://127.0.0.1:9: "),
        (["nothing"], "invalid choice: 'nothing'"),
        ([], "the following arguments are required: job"),
    ],
)
def test_wrong_input_is_one_line_and_code_2(arguments, message):
    done = subprocess.run(
        [sys.executable, ROOT / "deploy/submit.py", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert message in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
