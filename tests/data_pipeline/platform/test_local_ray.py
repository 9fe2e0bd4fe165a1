"""The local Ray of a job, in processes of their own: this one may have a Ray already."""

import os
import subprocess
import sys
from unittest import mock

import pytest

from data_pipeline.platform import cluster
from data_pipeline.platform.errors import JobFailedError
from tests.conftest import PATIENCE, ROOT

ADDRESS = """
import os, ray
from data_pipeline.platform.cluster import ray_session

with ray_session():
    known = ray.get(ray.remote(lambda: os.environ.get("RAY_ADDRESS")).remote())
    assert known == ray.get_runtime_context().gcs_address, known
    assert "RAY_ADDRESS" not in os.environ
print("right")
"""


def run(script: str, **environment: str) -> subprocess.CompletedProcess:
    inherited = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    return subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env=inherited | environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def test_the_processes_of_a_local_ray_know_its_address():
    """Ray Train's asks for it, and finds several where another Ray is on the machine."""
    assert run(ADDRESS).stdout == "right\n"


def test_a_long_temporary_folder_is_told_with_the_fix(tmp_path):
    folder = tmp_path / ("long" * 25)
    folder.mkdir()
    script = "from jobs.command import run; from data_pipeline.platform import cluster\n"
    script += "run(lambda: cluster.ray_session().__enter__())"
    done = run(script, RAY_TMPDIR=str(folder))
    assert done.returncode == 2
    (line,) = (one for one in done.stderr.splitlines() if one.startswith("error: "))
    assert line == (
        f"error: {folder}: this path is too long for Ray's sockets; set RAY_TMPDIR to a short one, "
        "as in RAY_TMPDIR=/tmp"
    )


@pytest.mark.parametrize("failures", [1, 2])
def test_a_ray_that_starts_too_slowly_is_started_once_more(failures, caplog):
    slow = Exception("The current node timed out during startup.")
    answers = [slow] * failures + [None]
    with mock.patch.multiple(
        cluster.ray, init=mock.Mock(side_effect=answers), shutdown=mock.DEFAULT
    ) as ray:
        if failures == 1:
            cluster._start()
        else:
            with pytest.raises(JobFailedError, match="timed out during startup"):
                cluster._start()
    assert ray["shutdown"].call_count == failures
    assert "did not start within Ray's 30 s: tries once more" in caplog.text
