"""The watcher for EC2's notice, against an imitation of the metadata service and of `ray`."""

import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from tests.conftest import PATIENCE, ROOT
from tests.deploy.metadata_service import MetadataService, metadata_service
from tests.deploy.yaml_files import read_yaml

WATCHER = ROOT / "deploy" / "aws" / "spot_notice.py"


@pytest.fixture
def service() -> Iterator[MetadataService]:
    with metadata_service() as one:
        one.metadata["instance-life-cycle"] = "spot"
        yield one


@pytest.fixture
def begin(service, tmp_path) -> Iterator:
    """Starts the watcher as a node does, but with a look every tenth of a second."""
    ray = tmp_path / "ray"
    calls = tmp_path / "calls"
    refuses_once = f'echo "$RAY_ADDRESS $@" >> {calls}; [ $(wc -l < {calls}) -gt 1 ]'
    ray.write_text(f"#!/bin/sh\n{refuses_once}\n")
    ray.chmod(0o755)
    code = (
        "import runpy, time; sleep = time.sleep; time.sleep = lambda _: sleep(0.1); "
        f"runpy.run_path({str(WATCHER)!r}, run_name='__main__')"
    )
    environment = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "AWS_EC2_METADATA_SERVICE_ENDPOINT": service.address,
    }
    started = []

    def start() -> subprocess.Popen:
        # -S: the standard library is enough.
        process = subprocess.Popen(
            [sys.executable, "-S", "-c", code],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def wait_for_requests(service: MetadataService, count: int) -> None:
    before, deadline = service.requests, time.monotonic() + PATIENCE
    while service.requests < before + count:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_notice_reaches_ray_through_failures(service, begin, tmp_path):
    watcher = begin()
    wait_for_requests(service, 5)
    service.is_broken = True
    wait_for_requests(service, 3)
    service.is_broken = False
    wait_for_requests(service, 3)
    assert watcher.poll() is None
    assert not (tmp_path / "calls").exists()
    service.metadata["spot/instance-action"] = json.dumps(
        {"action": "terminate", "time": "2100-01-02T03:04:05Z"}
    )
    output, _ = watcher.communicate(timeout=PATIENCE)
    assert watcher.returncode == 0
    broken = output.count("HTTP status 500; asking again")
    assert broken == 1  # one line for a failure that lasts
    assert "terminate" in output
    refused, accepted = (tmp_path / "calls").read_text().splitlines()
    for call in (refused, accepted):
        reason = "--reason=DRAIN_NODE_REASON_PREEMPTION --reason-message=EC2 will take this spot"
        assert call.startswith(f"auto drain-node {reason}")
        assert int(call.rpartition("--deadline-remaining-seconds=")[2]) > 10**9


def test_an_instance_that_is_not_spot_needs_no_watcher(service, begin):
    service.metadata["instance-life-cycle"] = "on-demand"
    watcher = begin()
    output, _ = watcher.communicate(timeout=PATIENCE)
    assert (watcher.returncode, output) == (0, "no spot instance: nothing to wait for\n")
    assert service.requests == 1


def test_ray_is_told_the_seconds_that_are_left():
    spec = importlib.util.spec_from_file_location("spot_notice", WATCHER)
    watcher = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(watcher)
    notice = '{"action": "stop", "time": "2026-01-02T03:06:05Z"}'
    for given, now, seconds in (
        (notice, "03:04:05", 120),
        (notice, "03:05:59", 6),
        (notice, "03:06:30", 0),
        (notice.replace("05Z", "05.750Z"), "03:06:00", 5),
        # A notice that does not say when: EC2 promises two minutes.
        ('{"action": "hibernate"}', "03:06:00", 120),
        ('{"time": null}', "03:06:00", 120),
        ("soon", "03:06:00", 120),
    ):
        command = watcher.drain_command(given, datetime.fromisoformat(f"2026-01-02T{now}+00:00"))
        assert command[-1] == f"--deadline-remaining-seconds={seconds}"
        assert command[-2].endswith(given)
    # Ray's own command knows these words.
    ray = Path(sys.executable).parent / "ray"
    known = subprocess.check_output([ray, "drain-node", "--help"], text=True)
    for word in (*(word.split("=")[0] for word in command[2:]), "DRAIN_NODE_REASON_PREEMPTION"):
        assert word in known


def test_cluster_yaml_starts_one_watcher_a_node(tmp_path):
    """Its command returns at once, and does nothing where a watcher runs already."""
    command = read_yaml((ROOT / "cluster.yaml").read_text())["worker_start_ray_commands"][-1]
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\necho "$@" $$ >> {tmp_path}/started\nexec sleep 300\n')
    python.chmod(0o755)
    command = command.replace("/tmp/", f"{tmp_path}/")
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    for _ in range(2):
        subprocess.run(["bash", "-c", f"true && ({command})"], check=True, env=environment)
    started, deadline = tmp_path / "started", time.monotonic() + PATIENCE
    while not started.exists() or not started.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.5)
    lines = started.read_text().splitlines()
    for line in lines:
        os.kill(int(line.split()[1]), 15)
    (path,) = (line.split()[0] for line in lines)
    assert path == "/opt/srgan/deploy/aws/spot_notice.py"
    assert WATCHER.relative_to(ROOT) == Path(path).relative_to("/opt/srgan")
