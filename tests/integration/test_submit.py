"""Jobs on a cluster of three nodes, by deploy/submit.py alone, with everything in a bucket."""

import csv
import io
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from ray.cluster_utils import Cluster

from tests.conftest import PATIENCE, ROOT, new_bucket, s3_client, use_server
from tests.deploy.test_aws import S3_ACTIONS
from tests.integration.jobs import output_of, wait_until
from tests.integration.test_object_storage import Bucket
from tests.s3_servers import faulty

STORE = 100 << 20
BIN = Path(sys.executable).parent


class JobCluster:
    """A head without CPUs for tasks, and two nodes with room for a training worker each."""

    def __init__(self) -> None:
        self.port = free_port()
        head = {
            "num_cpus": 0,
            "include_dashboard": True,
            "dashboard_port": self.port,
            "dashboard_agent_listen_port": free_port(),  # the usual one is another Ray's
            "object_store_memory": STORE,
        }
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        self.nodes = [self.add(), self.add()]
        self.cluster.wait_for_nodes()
        deadline = time.monotonic() + PATIENCE
        while subprocess.run(self.command("submit", "--", "true"), check=False).returncode:
            assert time.monotonic() < deadline  # the nodes' agents are not there at once
            time.sleep(0.5)

    def add(self) -> Any:
        return self.cluster.add_node(
            num_cpus=1, object_store_memory=STORE, dashboard_agent_listen_port=free_port()
        )

    def command(self, *arguments: Any) -> list[str]:
        given = [str(BIN / "ray"), "job", arguments[0]]
        return [*given, "--address", f"http://127.0.0.1:{self.port}", *map(str, arguments[1:])]

    def begin(self, job: str, *arguments: Any) -> subprocess.Popen:
        """As `make submit-...` does."""
        script = [sys.executable, ROOT / "deploy/submit.py"]
        command = [*script, "--address", f"http://127.0.0.1:{self.port}", job, *arguments]
        return subprocess.Popen(
            [*map(str, command)],
            cwd="/",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def submit(self, job: str, *arguments: Any) -> str:
        """Runs a job to its end; returns its log."""
        return output_of(self.begin(job, *arguments), code=0)

    def ask(self, *arguments: Any) -> str:
        return subprocess.run(
            self.command(*arguments), check=True, capture_output=True, text=True, timeout=PATIENCE
        ).stdout

    def lose_a_node(self) -> None:
        """SIGKILL of all its processes; another node comes, as an autoscaler would bring it."""
        node = self.nodes.pop(0)
        self.cluster.remove_node(node, allow_graceful=False)
        self.nodes.append(self.add())


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.fixture(scope="module")
def requests() -> list[tuple[str, str]]:
    """Methods and paths of all requests to the server but the test's own."""
    return []


@pytest.fixture(scope="module")
def bucket(ceph, requests) -> Iterator[Bucket]:
    """A bucket of a real server, which the cluster reaches through a proxy that notes requests."""
    with faulty(ceph, every=1 << 60) as proxy, pytest.MonkeyPatch.context() as patch:
        proxy.denies = lambda *request: bool(requests.append(request))
        use_server(patch, proxy.server)
        patch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
        yield Bucket(s3_client(ceph), new_bucket(ceph))


@pytest.fixture(scope="module")
def cluster(bucket, node_cache) -> Iterator[JobCluster]:
    """Its nodes inherit the way to the bucket, as on a cluster, and this Python."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{BIN}:{os.environ['PATH']}")
        patch.delenv("RAY_ADDRESS", raising=False)
        jobs = JobCluster()
        yield jobs
        jobs.cluster.shutdown()


@pytest.fixture(scope="module")
def data(bucket, cluster, photos, valid_photos) -> str:
    bucket.upload(photos, "photos")
    bucket.upload(valid_photos, "valid")
    uri = f"{bucket.uri}/data"
    sources = ["--source", f"{bucket.uri}/photos", "--valid-source", f"{bucket.uri}/valid"]
    cluster.submit("prepare", *sources, "--patch-size", 48, "--stride", 24, "--out", uri)
    return uri


# Over a file of the repository: a job brings the repository, not a test's folder.
SMALL = [
    "seed=1",
    "steps_per_call=2",
    "generator={blocks: 1, filters: 8}",
    "discriminator={filters: 4, dense: 8}",
    "batch={global_batch: 4, hr_crop: 32}",
    "checkpoints={every_steps: 10}",
    "phases={pretrain: {epochs: 1, losses: {mse: 1}},"
    " gan: {epochs: 3, losses: {mse: 1, adversarial: 1.0e-3}}}",
]


def train_arguments(data: str, run: str) -> list[Any]:
    settings = [part for value in SMALL for part in ("--set", value)]
    workers = ["--num-workers", 2, "--gpus-per-worker", 0]
    return ["--config", "configs/demo.yaml", "--data", data, "--run", run, *workers, *settings]


def wait_for_step(bucket: Bucket, run: str, step: int, process: subprocess.Popen) -> None:
    """Until a checkpoint of that step or a later one is there."""
    wait_until(process, lambda: any(one >= step for one in steps(bucket, run)))


def steps(bucket: Bucket, run: str) -> list[int]:
    keys = bucket.keys(f"{run}/checkpoints")
    return sorted(int(key.split("-")[0]) for key in keys if key.endswith("/checkpoint.json"))


@pytest.mark.slow
def test_prepare_train_and_evaluate_with_a_node_lost(bucket, cluster, data):
    run = f"{bucket.uri}/run"
    process = cluster.begin("train", *train_arguments(data, run))
    wait_for_step(bucket, "run", 30, process)
    cluster.lose_a_node()
    output = output_of(process, code=0)
    assert "2 worker(s), each on CPU:0" in output
    starts = re.findall(r"starting at step (\d+)", output)
    assert starts[0] == "0"
    assert int(starts[-1]) >= 30
    assert "\r" not in output  # no progress bar
    # TensorFlow's start-up notes, which nothing silences in the driver, do not come from workers.
    assert not [line for line in output.splitlines() if "pid=" in line and "cuda" in line.lower()]
    found = bucket.contents("run")
    assert {"generators/pretrain.keras", "generators/epoch-0003.keras"} < found.keys()
    records = [json.loads(line) for line in found["metrics.jsonl"].splitlines()]
    assert [(record["phase"], record["epoch"]) for record in records] == [
        ("pretrain", 1),
        ("gan", 1),
        ("gan", 2),
        ("gan", 3),
    ]
    output = cluster.submit("evaluate", "--run", run, "--fail-drop", "psnr_y=50")
    assert "| epoch | nearest | bicubic | SRGAN | HR |" in output
    found = bucket.contents("run/evaluation/data")
    table = list(csv.DictReader(io.StringIO(found["psnr.csv"].decode())))
    assert [row["epoch"] for row in table] == ["1", "2", "3"]
    assert {"report.html", "scores/srresnet.parquet", "history.csv"} < found.keys()


@pytest.mark.slow
def test_a_stopped_job_saves_and_the_next_one_goes_on(bucket, cluster, data):
    run = f"{bucket.uri}/stopped"
    process = cluster.begin("train", *train_arguments(data, run))
    wait_for_step(bucket, "stopped", 20, process)
    lines = iter(process.stdout.readline, "")
    job = next(line.split()[1].strip(":") for line in lines if line.startswith("submitted "))
    cluster.ask("stop", job)
    log = output_of(process, code=1)
    assert f"{job}: STOPPED" in log
    (copy,) = bucket.contents("stopped/logs").values()
    assert b"a checkpoint of step" in copy
    assert copy.splitlines()[-1].endswith(b" the job ends: KeyboardInterrupt")
    (saved,) = re.findall(r"a checkpoint of step (\d+) is saved", log)
    assert steps(bucket, "stopped")[-1] == int(saved)
    assert "interrupted: run the same command again to go on" in log
    output = cluster.submit("train", *train_arguments(data, run))
    assert f"starting at step {saved}" in output


@pytest.mark.slow
def test_what_goes_wrong_is_one_line(bucket, cluster, data):
    run = f"{bucket.uri}/wrong"
    usual = train_arguments(data, run)
    on_gpus = [one for one in usual if one not in ("--gpus-per-worker", 0)]
    soon = ["--set", "failures={cluster_minutes: 0.05}"]
    for message, arguments in (
        ("/none: holds no manifest.json", train_arguments(f"{bucket.uri}/none", run)),
        (
            "s3://none-of-these/none/manifest.json: no such bucket",
            train_arguments("s3://none-of-these/none", run),
        ),
        ("--gpus-per-worker: no node of the cluster has a GPU now; pass how many", on_gpus),
        (
            "4 worker(s) with 1 CPU(s) and 0 GPU(s) each are asked for",
            [*usual, "--num-workers", 4, *soon],
        ),
    ):
        output = output_of(cluster.begin("train", *arguments), code=2)  # the job's own
        # Said in the log, which is shown once more with the status.
        (error,) = {line for line in output.splitlines() if line.startswith("error: ")}
        assert message in error
        assert "Traceback" not in output
    assert not bucket.contents("wrong/checkpoints")


def action(method: str, path: str) -> str:
    """The right that a request needs on AWS."""
    where, _, query = path.partition("?")
    arguments = parse_qs(query, keep_blank_values=True)
    of_bucket = "/" not in where.strip("/")
    if method in ("GET", "HEAD"):
        if of_bucket:
            return "s3:ListBucketMultipartUploads" if "uploads" in arguments else "s3:ListBucket"
        return "s3:ListMultipartUploadParts" if "uploadId" in arguments else "s3:GetObject"
    if method == "DELETE":
        return "s3:AbortMultipartUpload" if "uploadId" in arguments else "s3:DeleteObject"
    if method == "POST" and "delete" in arguments:
        return "s3:DeleteObject"
    return "s3:CreateBucket" if of_bucket else "s3:PutObject"


@pytest.mark.slow
def test_the_policies_allow_what_was_called_and_nothing_else(bucket, cluster, data, requests):
    """After all of the above: preparing, training, evaluating, stopping."""
    cluster.submit("prepare", "--verify", data)
    called = {action(*request) for request in requests}
    # Only an upload that failed is aborted.
    assert called | {"s3:AbortMultipartUpload"} == S3_ACTIONS
