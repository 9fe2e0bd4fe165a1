"""A cluster by the documented commands: head, workers, an empty HOME, tokens on and off."""

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
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from tests.conftest import PATIENCE, ROOT
from tests.deploy.metadata_service import metadata_service
from tests.integration.jobs import last_step, output_of, starts
from tests.integration.jobs import wait_until as wait_for
from tests.integration.test_submit import train_arguments

pytestmark = pytest.mark.slow

SCRIPT = ROOT / "deploy" / "own_machines.sh"
BIN = ROOT / ".venv" / "bin"
# A line of ours, in a driver or in a worker.
OURS = re.compile(r"(\(\w+ pid=\d+(, ip=[\d.]+)?\) )?\d\d:\d\d:\d\d ")


class Machines:
    """A cluster on this machine. Ports and a temporary folder are all that differs from the docs.

    Every machine has an empty home of its own, and the venv is not on its PATH.
    """

    def __init__(self, folder: Path, mode: str) -> None:
        self.folder, self.mode = folder, mode
        self.environment = {
            **{name: value for name, value in os.environ.items() if name.startswith("RAY_")},
            "PATH": "/usr/bin:/bin",
            "RAY_AUTH_MODE": mode,
            "RAY_TMPDIR": str(folder),
        }
        for name in ("RAY_ADDRESS", "RAY_AUTH_TOKEN"):  # of this process's own Ray
            self.environment.pop(name, None)
        self.nodes: list[subprocess.Popen] = []
        self.port, self.dashboard = free_port(), free_port()
        log = self.start("head", f"--port={self.port}", f"--dashboard-port={self.dashboard}")
        ip = re.search(r"Local node IP.*?(\d+(?:[.]\d+){3})", log)[1]
        self.address = f"{ip}:{self.port}"

    def home(self, name: object, *, with_token: bool = True) -> str:
        """An empty home, but for the head's token."""
        home = self.folder / f"home-{name}"
        token = home / ".ray" / "auth_token"
        token.parent.mkdir(parents=True)
        if with_token and self.mode == "token":
            shutil.copy(self.token(), token)
        return str(home)

    def token(self) -> Path:
        return self.folder / "home-0" / ".ray" / "auth_token"

    def start(self, *arguments: str) -> str:
        """Starts a node and waits for it; returns what it printed."""
        options = ["--num-cpus=1", "--object-store-memory=104857600"]
        options.append(f"--dashboard-agent-listen-port={free_port()}")
        number = len(self.nodes)
        log = self.folder / f"{number}.log"  # and the mark of its processes
        home = self.home(number, with_token=number > 0)
        with log.open("w") as output:
            node = subprocess.Popen(
                [SCRIPT, *arguments, *options],
                cwd="/",
                env=self.environment | {"HOME": home, "OWN_MACHINE": str(log)},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.nodes.append(node)
        head = self.nodes[0]
        wait_until(
            lambda: (
                "Ray runtime started" in log.read_text()
                or node.poll() is not None
                or head.poll() is not None
            )
        )
        assert head.poll() is node.poll() is None, (
            self.folder / "0.log"
        ).read_text() + log.read_text()
        return log.read_text()

    def stop(self, node: subprocess.Popen) -> None:
        node.send_signal(signal.SIGTERM)
        node.wait(PATIENCE)
        wait_until(lambda: not processes(str(self.folder / f"{self.nodes.index(node)}.log")))

    def stop_all(self) -> None:
        """Each node ends, and leaves no process."""
        for node in self.nodes:
            if node.poll() is None:
                self.stop(node)

    def run(self, *command: object, **variables: str) -> subprocess.CompletedProcess:
        """Runs a command on one of the machines."""
        return subprocess.run(
            list(map(str, command)),
            cwd=ROOT,
            env=self.environment | {"HOME": str(self.folder / "home-0")} | variables,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def command(self, job: str, *arguments: object) -> list[str]:
        """What `make submit-...` runs."""
        where = f"http://127.0.0.1:{self.dashboard}"
        submit = [BIN / "python", "deploy/submit.py", "--address", where, job, *arguments]
        return list(map(str, submit))

    def begin(self, job: str, *arguments: object) -> subprocess.Popen:
        """`make submit-...`, on a machine with the tunnel."""
        return subprocess.Popen(
            self.command(job, *arguments),
            cwd=ROOT,
            env=self.environment | {"HOME": self.home(uuid.uuid4().hex)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def submit(self, job: str, *arguments: object) -> str:
        """The same, to its end; returns what it printed."""
        return output_of(self.begin(job, *arguments), code=0)

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


@pytest.fixture
def machines(request) -> Iterator[Machines]:
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # short: sockets lie in it
    try:
        yield Machines(folder, request.param)
    finally:
        for process in processes(str(folder)):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize("machines", ["token"], indirect=True)
def test_a_newcomer_trains_on_a_cluster_by_the_documented_commands(machines, photos, valid_photos):
    assert machines.token().stat().st_mode & 0o077 == 0  # nobody else's business
    without = machines.run(SCRIPT, "worker", machines.address, HOME=str(machines.folder))
    assert without.returncode == 2
    assert without.stderr.startswith("error: this machine has no token; copy ~/.ray/auth_token")
    machines.start("worker", machines.address)
    machines.start("worker", machines.address)
    wait_until(lambda: len(machines.node_ids()) == 3)

    data, run = machines.folder / "data", machines.folder / "run"
    sources = ["--source", photos, "--valid-source", valid_photos]
    logs = [machines.submit("prepare", *sources, "--patch-size", 48, "--stride", 24, "--out", data)]
    train = train_arguments(str(data), str(run))
    training = machines.begin("train", *train)
    wait_for(training, lambda: last_step(run) >= 10)
    job = training.stdout.readline().split()[1].strip(":")  # submitted JOB: python -m ...
    where = ["--address", f"http://127.0.0.1:{machines.dashboard}"]
    assert machines.run(BIN / "ray", "job", "stop", *where, job).returncode == 0
    logs.append(output_of(training, code=1))
    (saved,) = re.findall(r"a checkpoint of step (\d+) is saved", logs[-1])
    logs.append(machines.submit("train", *train))
    assert set(starts(logs[-1])) == {int(saved)}  # three nodes here read one folder of logs
    results = run / "evaluation" / "data"
    before, table, after = machines.submit("evaluate", "--run", run).partition(
        (results / "psnr.md").read_text().partition("\nProtocol:\n")[0]
    )
    assert table
    assert after.splitlines()[-3:-1] == [
        f"next: open {results}/report.html",
        f'next: make submit-upscale ARGS="--run {run} PICTURE OUTPUT"',
    ]
    logs += [before, after]
    logs.append(verified_from_a_shell(machines, data))
    assert_plain(logs)
    assert_that_a_worker_goes_and_comes(machines)
    machines.stop_all()


@pytest.mark.parametrize("machines", ["disabled"], indirect=True)
def test_a_cluster_without_tokens_needs_none_and_minds_none(machines, photos, valid_photos):
    """Less than with tokens: only what the token could break."""
    machines.start("worker", machines.address)
    wait_until(lambda: len(machines.node_ids()) == 2)
    data = machines.folder / "data"
    sources = ["--source", photos, "--valid-source", valid_photos]
    logs = [machines.submit("prepare", *sources, "--patch-size", 48, "--stride", 24, "--out", data)]
    logs.append(verified_from_a_shell(machines, data))
    assert not list(machines.folder.glob("home-*/.ray/auth_token"))
    machines.token().write_text("a" * 64)  # of another cluster
    with_one = ["env", "-u", "RAY_AUTH_MODE", *machines.command("prepare", "--verify", data)]
    verified = machines.run(*with_one)
    assert verified.returncode == 0, verified.stderr
    assert_plain([*logs, verified.stdout, verified.stderr])
    machines.stop_all()


def verified_from_a_shell(machines: Machines, data: Path) -> str:
    """The log of a job on a machine of the cluster, without the job server."""
    verify = [BIN / "python", "-m", "jobs.prepare", "--verify", data]
    verified = machines.run(*verify, RAY_ADDRESS=machines.address)
    assert verified.returncode == 0, verified.stderr
    return verified.stderr


def assert_plain(logs: list[str]) -> None:
    """No traceback, and few lines without our clock time."""
    lines = [line for log in logs for line in log.splitlines() if line]
    assert not [line for line in lines if "Traceback" in line]
    foreign = [line for line in lines if not OURS.match(line)]
    assert len(foreign) <= 40, f"{len(foreign)} of {len(lines)} lines:\n" + "\n".join(foreign)


def assert_that_a_worker_goes_and_comes(machines: Machines) -> None:
    machines.stop(machines.nodes[1])
    wait_until(lambda: len(machines.node_ids()) == 2)
    stayed = set(machines.node_ids())
    machines.start("worker", machines.address)
    wait_until(lambda: len(machines.node_ids()) == 3)
    (newest,) = set(machines.node_ids()) - stayed
    assert_that_ec2s_notice_drains(machines, newest)


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


@pytest.mark.parametrize(
    ("arguments", "started"),
    [
        (["head", "--num-gpus", "0"], "start --head --port=6379 --block --num-gpus 0"),
        (["worker", "node"], "start --address=node:6379 --block"),
        (["worker", "10.0.0.1:7000", "-v"], "start --address=10.0.0.1:7000 --block -v"),
        (["worker", "fd00::1"], "start --address=[fd00::1]:6379 --block"),
        (["worker", "[fd00::1]"], "start --address=[fd00::1]:6379 --block"),
        (["worker", "[fd00::1]:7000"], "start --address=[fd00::1]:7000 --block"),
    ],
)
def test_what_the_script_gives_to_ray(arguments, started, tmp_path, monkeypatch):
    monkeypatch.setenv("head", "10.9.9.9")  # a variable of the user's is not the script's
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    for folder in ("deploy", ".venv/bin"):
        (tmp_path / folder).mkdir(parents=True)
    ray = tmp_path / ".venv/bin/ray"
    ray.write_text('#!/bin/sh\necho "$@"\n')
    ray.chmod(0o755)
    script = shutil.copy(SCRIPT, tmp_path / "deploy")
    result = subprocess.run([script, *arguments], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, f"{started}\n", "")


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
