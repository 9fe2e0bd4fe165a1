"""Shared fixtures: a real Ray, real photographs, and the benchmark sets where they are at hand."""

import atexit
import fcntl
import logging
import os
import re
import shutil
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import boto3
import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# A Ray that a test starts and the jobs that go to it have one token, as a cluster has.
os.environ.setdefault("RAY_AUTH_TOKEN", uuid.uuid4().hex)
# Ray Train looks after its workers every 2 s, which the shortest runs would wait for.
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
# Ray's processes have 30 to 60 s to start: too few where many start on a busy machine.
os.environ.setdefault("RAY_gcs_server_port_wait_time_s", "600")
os.environ.setdefault("RAY_worker_register_timeout_seconds", "600")
os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "600")
# How often a node is asked whether it lives. A dead one is found soon, a busy one still has 10 s.
os.environ.setdefault("RAY_health_check_period_ms", "500")
if "PYTEST_XDIST_WORKER" in os.environ:
    # Ray notes the machine's newest cluster in its folder, and a submitted job goes to that one:
    # processes side by side need a folder each. Its path is short, as sockets lie in it.
    os.environ["RAY_TMPDIR"] = tempfile.mkdtemp(prefix="ray-")
    atexit.register(shutil.rmtree, os.environ["RAY_TMPDIR"], ignore_errors=True)

import ray

from data_pipeline.manifest import DataSettings
from data_pipeline.platform.storage.s3_connection import Connection
from data_pipeline.prepare.build import prepare
from jobs.command import run
from tests.s3_servers import S3Server, moto_server
from tests.srgan.session import limit_devices

ROOT = Path(__file__).parent.parent
BENCHMARKS = Path(os.environ.get("SRGAN_TEST_DATA", ROOT.parent / "shared" / "data"))

# Seconds. No test needs so many on the slowest and busiest machine; what hangs ends then.
PATIENCE = 900

LONGEST = (
    "test_submit.py",
    "test_node_loss.py",
    "test_object_storage.py",
    "test_workers.py",
    "test_stops.py",
    "test_step.py",
    "test_training.py",
    "test_evaluation.py",
)

limit_devices()


def pytest_collection_modifyitems(config, items):
    """Integration tests last: what fails fast fails first. Side by side, the longest first."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: (*LONGEST, item.path.name).index(item.path.name))
    else:
        items.sort(key=lambda item: "integration" in item.path.parts)


@pytest.fixture
def benchmark_sets() -> Path:
    if not BENCHMARKS.is_dir():
        pytest.skip(f"no benchmark sets at {BENCHMARKS}; set SRGAN_TEST_DATA")
    return BENCHMARKS


@pytest.fixture(scope="session", autouse=True)
def node_cache(tmp_path_factory) -> Iterator[Path]:
    """The node's folder of all tests, of what they start and of Ray's workers: none is at home."""
    folder = tmp_path_factory.mktemp("node")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SRGAN_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def moto() -> Iterator[S3Server]:
    with moto_server() as server:
        yield server


@lru_cache
def s3_client(server: S3Server) -> Any:
    """A client beside the one under test, for what a person does with other tools."""
    return boto3.session.Session().client(
        "s3",
        endpoint_url=server.endpoint,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        region_name="us-east-1",
    )


def new_bucket(server: S3Server) -> str:
    name = f"bucket-{uuid.uuid4().hex[:8]}"
    s3_client(server).create_bucket(Bucket=name)
    return name


@lru_cache
def _connection(server: S3Server) -> Connection:
    return Connection()  # used while the environment leads to that server


def use_server(patch: pytest.MonkeyPatch, server: S3Server) -> None:
    """Leads this process, and what it starts from now on, to a server and nowhere else."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        patch.delenv(name)
    for name, value in server.environment().items():
        patch.setenv(name, value)
    patch.setattr("data_pipeline.platform.storage.s3._CONNECTION", _connection(server))


def use_environment(patch: pytest.MonkeyPatch, **environment: str | None) -> None:
    """Changes the environment, in which this process has not used S3 yet."""
    for name, value in environment.items():
        patch.setenv(name, value or "")
        if value is None:
            patch.delenv(name)
    patch.setattr("data_pipeline.platform.storage.s3._CONNECTION", Connection())


@pytest.fixture
def bucket(moto, monkeypatch) -> str:
    """Name of a new bucket of `moto`; this process's environment leads there, Ray's does not."""
    use_server(monkeypatch, moto)
    return new_bucket(moto)


@pytest.fixture(scope="session")
def once(tmp_path_factory) -> Callable[[str, Callable[[Path], Any]], Path]:
    """Makes a folder once for all of xdist's processes; tests must not change it."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent

    def make(name: str, build: Callable[[Path], Any]) -> Path:
        folder, finished = base / name, base / f"{name}.finished"
        with (base / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not finished.exists():
                shutil.rmtree(folder, ignore_errors=True)
                build(folder)
                finished.touch()
        return folder

    return make


class Done(NamedTuple):
    """A job that has ended."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line of stderr that says what is wrong."""
        (line,) = (line for line in self.err.splitlines() if line.startswith("error: "))
        return line


@pytest.fixture
def command(monkeypatch, capsys) -> Callable[..., Done]:
    """Runs a job's main in this process, on its Ray if it has one."""
    root = logging.getLogger()

    def call(job: ModuleType, *arguments: Any) -> Done:
        monkeypatch.setattr(sys, "argv", ["job", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            run(job.main)
        # The job's console is this test's stderr, which is closed after it.
        root.handlers = [one for one in root.handlers if type(one) is not logging.StreamHandler]
        return Done(stop.value.code, *capsys.readouterr())

    return call


def assert_refused(done: Done, *parts: str) -> None:
    """The user's input is wrong: one line says why, and holds these parts; no traceback."""
    assert done.code == 2, done
    assert "Traceback" not in done.err
    for part in parts:
        assert part in done.error


@pytest.fixture(scope="session")
def ray_local():
    ray.init(address="local", num_cpus=2, include_dashboard=False, object_store_memory=200 << 20)
    yield
    ray.shutdown()


def undated(data: bytes) -> bytes:
    """A report without its date, a file of scores without its time."""
    if not data.startswith(b"PAR1"):
        return re.sub(rb"<time.*?</time>", b"", data)
    table = pq.read_table(pa.BufferReader(data))
    metadata = dict(table.schema.metadata)
    if not metadata.pop(b"scored", None):
        return data
    sink = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata(metadata), sink)
    return sink.getvalue().to_pybytes()


def photograph(name: str) -> np.ndarray:
    """A photograph of scikit-image's wheel as OpenCV reads it: uint8 BGR or grey."""
    import skimage

    return cv2.imread(str(Path(skimage.__file__).parent / "data" / name), cv2.IMREAD_UNCHANGED)


@pytest.fixture(scope="session")
def photos(once) -> Path:
    """Six small real photographs: odd sizes, one grey, PNG, JPEG and BMP, one in a subfolder."""

    def build(folder: Path) -> None:
        (folder / "more").mkdir(parents=True)
        for name, photo, rows, columns in (
            ("astronaut.png", "astronaut.png", slice(97), slice(200, 299)),
            ("camera.png", "camera.png", slice(100, 200), slice(150, 250)),
            ("chelsea.bmp", "chelsea.png", slice(50, 153), slice(100, 230)),
            ("coffee.jpg", "coffee.png", slice(100, 200), slice(200, 300)),
            ("rocket.png", "rocket.jpg", slice(96), slice(300, 400)),
            ("more/motorcycle.png", "motorcycle_left.png", slice(96), slice(96)),
        ):
            cv2.imwrite(str(folder / name), photograph(photo)[rows, columns])

    return once("photos", build)


@pytest.fixture(scope="session")
def valid_photos(once) -> Path:
    def build(folder: Path) -> None:
        folder.mkdir()
        cv2.imwrite(str(folder / "ihc.png"), photograph("ihc.png")[:101, :102])
        cv2.imwrite(str(folder / "retina.png"), photograph("retina.jpg")[600:700, 600:700])
        cv2.imwrite(str(folder / "zgrey.png"), photograph("brick.png")[:60, :64])

    return once("valid", build)


def data_settings(source: Path, valid: Path | None = None, **changes) -> DataSettings:
    """Settings of a small data set: 48/24 patches of a folder."""
    settings = {
        "source": str(source),
        "valid_source": str(valid) if valid else None,
        "format": "arrow",
        "scale": 4,
        "kernel": "matlab",
        "patch_size": 48,
        "stride": 24,
    }
    return DataSettings(**(settings | changes))


@pytest.fixture(scope="session")
def small_data(once, ray_local, photos, valid_photos) -> Path:
    """A finished data set; tests must not change it."""
    settings = data_settings(photos, valid_photos)
    return once("small", lambda out: prepare(settings, str(out)))
