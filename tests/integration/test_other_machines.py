"""Nodes as other people have them: a space in a path, full memory, a node without the source."""

import os
import shlex
import socket
import subprocess
import sys
import sysconfig
import time
import venv
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest

from tests.conftest import PATIENCE, ROOT, photograph

PACKAGES = ("jobs", "srgan", "data_pipeline")

pytestmark = pytest.mark.slow


def job(name: str, *arguments, python: str = sys.executable, **environment: str):
    own = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    return subprocess.run(
        [python, "-m", f"jobs.{name}", *map(str, arguments)],
        cwd=ROOT,
        env=own | environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def errors(done: subprocess.CompletedProcess) -> list[str]:
    return [line for line in done.stderr.splitlines() if line.startswith(("error: ", "Traceback"))]


def prepare_arguments(photos: Path, out: Path) -> list:
    return ["--source", photos, "--out", out, "--patch-size", 48, "--stride", 24]


def test_a_python_below_a_folder_with_a_space_trains(small_data, config, tmp_path):
    """Ray Train gives its workers an environment of their own: Ray starts them by a shell."""
    environment = tmp_path / "a folder" / "venv"
    venv.create(environment, symlinks=True, with_pip=False)
    (packages,) = environment.glob("lib/*/site-packages")
    (packages / "other.pth").write_text(sysconfig.get_paths()["purelib"])
    done = job(
        "train",
        *("--config", config, "--data", small_data, "--run", tmp_path / "run"),
        python=str(environment / "bin" / "python"),
    )
    assert done.returncode == 0, done
    assert (tmp_path / "run" / "goodput.json").exists()


def test_tasks_that_rays_monitor_ends_are_not_run_for_ever(tmp_path):
    full = {"RAY_memory_usage_threshold": "0.001", "RAY_memory_monitor_refresh_ms": "100"}
    # So many patches that the monitor looks before a task has ended.
    (tmp_path / "photos").mkdir()
    for number in range(12):
        cv2.imwrite(str(tmp_path / f"photos/{number}.png"), photograph("astronaut.png"))
    arguments = prepare_arguments(tmp_path / "photos", tmp_path / "out")
    done = job("prepare", *arguments[:-1], 8, **full)
    assert done.returncode == 1, done
    (line,) = errors(done)
    assert "the memory of node " in line
    assert "and Ray ended the process; use nodes with more memory, or fewer CPUs" in line


def test_a_controller_that_rays_monitor_ends_is_one_line(small_data, config, tmp_path):
    full = {"RAY_memory_usage_threshold": "0.001", "RAY_memory_monitor_refresh_ms": "100"}
    arguments = ("--config", config, "--data", small_data, "--run", tmp_path / "run")
    done = job("train", *arguments, **full)
    assert done.returncode == 1, done
    (line,) = errors(done)
    assert line.startswith("error: training failed: the memory of node ")


@pytest.fixture
def address(tmp_path) -> Iterator[str]:
    """A node that sees empty folders in place of this checkout's packages."""
    if os.geteuid():
        pytest.skip("only root can hide folders from a process")
    (tmp_path / "empty").mkdir()
    with socket.socket() as server:
        server.bind(("", 0))
        port = server.getsockname()[1]
    hide = [f"mount --bind {tmp_path}/empty {ROOT}/{one}" for one in PACKAGES]
    ray = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", f"--port={port}"]
    ray += ["--num-cpus=2", "--include-dashboard=false", "--block"]
    node = " && ".join([*hide, "cd /", f"exec {shlex.join(ray)}"])
    process = subprocess.Popen(
        ["unshare", "-m", "bash", "-c", node], env=os.environ | {"RAY_AUTH_MODE": "disabled"}
    )
    while process.poll() is None and not answers(port):
        time.sleep(0.1)
    yield f"127.0.0.1:{port}"
    process.terminate()
    process.wait(PATIENCE)


def answers(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def test_the_source_goes_along_to_nodes_that_lack_it(address, photos, config, tmp_path):
    cluster = {"RAY_ADDRESS": address, "RAY_AUTH_MODE": "disabled"}
    done = job("prepare", *prepare_arguments(photos, tmp_path / "data"), **cluster)
    assert done.returncode == 0, done
    arguments = ("--config", config, "--data", tmp_path / "data", "--run", tmp_path / "run")
    done = job("train", *arguments, "--gpus-per-worker", 0, **cluster)
    assert done.returncode == 0, done
