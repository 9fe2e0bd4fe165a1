"""What goes along to a cluster, and how a local Ray finds Python."""

import json
import shlex

import pytest
from ray.util import get_node_ip_address

from data_pipeline.platform.cluster import _job_environment, _local_environment, _start
from data_pipeline.platform.errors import JobFailedError
from tests.conftest import ROOT


@pytest.fixture(autouse=True)
def variables(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    monkeypatch.setenv("KERAS_HOME", "/dev/null")
    monkeypatch.setenv("RAY_TRAIN_V2_ENABLED", "1")
    monkeypatch.delenv("TF_USE_LEGACY_KERAS", raising=False)
    monkeypatch.delenv("RAY_JOB_CONFIG_JSON_ENV_VAR", raising=False)


def test_a_job_takes_its_packages_and_variables_along_but_no_data():
    assert _job_environment("auto") == {
        "env_vars": {
            "KERAS_BACKEND": "tensorflow",
            "KERAS_HOME": "/dev/null",
            "RAY_TRAIN_V2_ENABLED": "1",
        },
        "py_modules": [str(ROOT / name) for name in ("data_pipeline", "srgan", "jobs")],
        "excludes": ["**/__pycache__"],
    }


def test_a_submitted_job_has_its_source_and_keeps_its_own_variables(monkeypatch):
    submitted = {"runtime_env": {"working_dir": "gcs://x", "env_vars": {"KERAS_BACKEND": "jax"}}}
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps(submitted))
    assert _job_environment("auto") == {
        "env_vars": {"KERAS_HOME": "/dev/null", "RAY_TRAIN_V2_ENABLED": "1"}
    }


@pytest.mark.parametrize(
    ("given", "known"),
    [
        ("10.1.2.3:6379", "10.1.2.3:6379"),
        ("head.example:6380", "head.example:6380"),
        ("127.0.0.1:6379", f"{get_node_ip_address()}:6379"),  # this machine, as others see it
        ("localhost:6379", f"{get_node_ip_address()}:6379"),
        ("auto", None),
        ("ray://head:10001", None),
    ],
)
def test_the_workers_know_their_cluster(given, known):
    """Else Ray Train's processes look for one on their node, and may find another one."""
    assert _job_environment(given)["env_vars"].get("RAY_ADDRESS") == known


def test_a_python_below_a_folder_with_a_space_is_quoted():
    assert _local_environment("/usr/bin/python3") is None
    python = "/home/a b/.venv/bin/python"
    environment = _local_environment(python)
    assert environment is not None
    assert shlex.split(environment["py_executable"]) == [python]


def test_a_ray_that_does_not_start_is_one_line(monkeypatch):
    def init(**_):
        raise Exception("The current node timed out during startup.\nThis could happen")

    monkeypatch.setattr("ray.init", init)
    monkeypatch.setattr("ray.shutdown", lambda: None)
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "kept")
    with pytest.raises(JobFailedError) as error:
        _start()
    text = str(error.value)
    assert "\n" not in text
    assert "timed out during startup. This could happen; the usual reasons are too little" in text
    assert text.endswith("Ray's logs are in /tmp/ray/session_latest/logs")
