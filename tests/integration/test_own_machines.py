"""A cluster by the documented commands: head, two workers, an empty HOME, tokens on and off."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from tests.conftest import PATIENCE, ROOT
from tests.deploy.metadata_service import metadata_service

pytestmark = pytest.mark.slow

SCRIPT = ROOT / "deploy" / "own_machines.sh"
BIN = ROOT / ".venv" / "bin"
PREPARE = ["--source", "samples", "--patch-size", "96", "--stride", "96"]


class Machines:
    """Nodes on this machine. Other ports and a temporary folder are all that differs."""

    def __init__(self, folder: Path, mode: str) -> None:
        self.folder = folder
        self.environment = {
            **{name: value for name, value in os.environ.items() if name.startswith("RAY_")},
            "HOME": str(folder / "home"),
            "PATH": "/usr/bin:/bin",  # the venv is not on it
            "RAY_AUTH_MODE": mode,
            "RAY_TMPDIR": str(folder),
            "SRGAN_CACHE": str(folder / "cache"),
        }
        self.environment.pop("RAY_ADDRESS", None)
        (folder / "home").mkdir()
        self.nodes: list[subprocess.Popen] = []
        self.port, self.dashboard = free_port(), free_port()
        log = self.start("head", f"--port={self.port}", f"--dashboard-port={self.dashboard}")
        ip = re.search(r"Local node IP.*?(\d+(?:[.]\d+){3})", log)[1]
        self.address = f"{ip}:{self.port}"

    def start(self, *arguments: str) -> str:
        """Starts a node and waits for it; returns what it printed."""
        options = ["--num-cpus=1", "--object-store-memory=104857600"]
        options.append(f"--dashboard-agent-listen-port={free_port()}")
        log = self.folder / f"{len(self.nodes)}.log"  # and the mark of its processes
        with log.open("w") as output:
            node = subprocess.Popen(
                [SCRIPT, *arguments, *options],
                cwd="/",
                env=self.environment | {"OWN_MACHINE": str(log)},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.nodes.append(node)
        wait_until(lambda: "Ray runtime started" in log.read_text() or node.poll() is not None)
        assert node.poll() is None, log.read_text()
        return log.read_text()

    def stop(self, node: subprocess.Popen) -> None:
        node.send_signal(signal.SIGTERM)
        node.wait(PATIENCE)
        wait_until(lambda: not processes(str(self.folder / f"{self.nodes.index(node)}.log")))

    def run(self, *command: str | Path, **variables: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            list(map(str, command)),
            cwd=ROOT,
            env=self.environment | variables,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def node_ids(self) -> list[str]:
        result = self.run(BIN / "ray", "status", "--address", self.address)
        return re.findall(r"node_([0-9a-f]{56})", result.stdout.partition("Resources")[0])


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def processes(mark: str) -> list[int]:
    """Living processes that a node started: they inherit its environment."""
    found = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):  # it has ended meanwhile
            if f"OWN_MACHINE={mark}".encode() in environment.read_bytes():
                found.append(int(environment.parent.name))
    return found


def wait_until(is_true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.5)


@pytest.fixture(params=["token", "disabled"])
def machines(request) -> Iterator[Machines]:
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # short: sockets lie in it
    try:
        yield Machines(folder, request.param)
    finally:
        for process in processes(str(folder)):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)


def test_the_documented_commands_make_a_cluster(machines):
    token = Path(machines.environment["HOME"]) / ".ray" / "auth_token"
    with_token = machines.environment["RAY_AUTH_MODE"] == "token"
    assert token.exists() == with_token
    if with_token:
        assert token.stat().st_mode & 0o077 == 0  # nobody else's business
        without = machines.run(SCRIPT, "worker", machines.address, HOME=str(machines.folder))
        assert without.returncode == 2
        assert without.stderr.startswith("error: this machine has no token; copy ~/.ray/auth_token")
    machines.start("worker", machines.address)
    machines.start("worker", machines.address)
    wait_until(lambda: len(machines.node_ids()) == 3)

    # From a machine of the cluster.
    data = machines.folder / "data"
    prepared = machines.run(
        BIN / "python", "-m", "jobs.prepare", *PREPARE, "--out", data, RAY_ADDRESS=machines.address
    )
    assert prepared.returncode == 0, prepared.stderr
    assert "Traceback" not in prepared.stderr
    assert (data / "manifest.json").exists()

    # Submitted: the job's `python` is the venv's.
    submitted = machines.run(
        *(BIN / "ray", "job", "submit", "--address", f"http://127.0.0.1:{machines.dashboard}"),
        *("--working-dir", ".", "--runtime-env", "deploy/runtime_env.yaml", "--"),
        *("python", "-m", "jobs.prepare", "--verify", data),
    )
    assert submitted.returncode == 0, submitted.stdout + submitted.stderr
    assert "Traceback" not in submitted.stdout

    # A worker goes and comes again.
    machines.stop(machines.nodes[1])
    wait_until(lambda: len(machines.node_ids()) == 2)
    stayed = set(machines.node_ids())
    machines.start("worker", machines.address)
    wait_until(lambda: len(machines.node_ids()) == 3)
    (newest,) = set(machines.node_ids()) - stayed

    assert_that_ec2s_notice_drains(machines, newest)
    for node in (machines.nodes[3], machines.nodes[2], machines.nodes[0]):
        machines.stop(node)


def assert_that_ec2s_notice_drains(machines: Machines, chosen: str) -> None:
    """The watcher of deploy/aws, as on a spot node: but here three nodes share a machine."""
    ray = machines.folder / "bin" / "ray"
    ray.parent.mkdir()
    given = f"--address={machines.address} --node-id={chosen}"
    ray.write_text(f'#!/bin/sh\ncommand=$1; shift\nexec {BIN}/ray "$command" {given} "$@"\n')
    ray.chmod(0o755)
    end = datetime.now(timezone.utc) + timedelta(hours=1)
    with metadata_service() as service:
        service.metadata["instance-life-cycle"] = "spot"
        service.metadata["spot/instance-action"] = json.dumps(
            {"action": "terminate", "time": f"{end:%Y-%m-%dT%H:%M:%SZ}"}
        )
        watcher = machines.run(
            sys.executable,
            ROOT / "deploy" / "aws" / "spot_notice.py",
            AWS_EC2_METADATA_SERVICE_ENDPOINT=service.address,
            PATH=f"{ray.parent}:/usr/bin:/bin",
        )
    assert watcher.returncode == 0, watcher.stderr
    assert "Ray does not accept it" not in watcher.stderr
    # A node that is drained ends when it has no work; this one has none.
    wait_until(lambda: chosen not in machines.node_ids())
    assert len(machines.node_ids()) == 2


def test_what_the_script_cannot_do_is_one_line(tmp_path):
    def error(script: Path, *arguments: str) -> str:
        result = subprocess.run([script, *arguments], capture_output=True, text=True, check=False)
        assert (result.returncode, result.stdout) == (2, "")
        return result.stderr

    usage = f"error: {SCRIPT}: say head, or worker HEAD[:PORT]\n"
    for arguments in ((), ("worker",), ("worker", "--num-cpus=1"), ("stop",)):
        assert error(SCRIPT, *arguments) == usage
    (tmp_path / "deploy").mkdir()
    script = shutil.copy(SCRIPT, tmp_path / "deploy")
    assert error(script, "head") == f"error: {tmp_path}/.venv: has no Ray; run make setup there\n"
