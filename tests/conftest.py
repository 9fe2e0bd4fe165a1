"""Shared fixtures: a real Ray, real photographs, and the benchmark sets where they are at hand."""

import os
import uuid
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import boto3
import cv2
import numpy as np
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Ray Train looks after its workers every 2 s, which the shortest runs would wait for.
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")

import ray

from data_pipeline.manifest import DataSettings
from data_pipeline.platform.storage.s3_connection import Connection
from data_pipeline.prepare.build import prepare
from tests.s3_servers import S3Server, moto_server
from tests.srgan.session import limit_devices

ROOT = Path(__file__).parent.parent
BENCHMARKS = Path(os.environ.get("SRGAN_TEST_DATA", ROOT.parent / "shared" / "data"))

limit_devices()


def pytest_collection_modifyitems(items):
    """Integration tests last: what fails fast fails first."""
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


@pytest.fixture
def bucket(moto, monkeypatch) -> str:
    """Name of a new bucket of `moto`; this process's environment leads there, Ray's does not."""
    use_server(monkeypatch, moto)
    return new_bucket(moto)


@pytest.fixture(scope="session")
def ray_local():
    ray.init(address="local", num_cpus=2, include_dashboard=False, object_store_memory=200 << 20)
    yield
    ray.shutdown()


def photograph(name: str) -> np.ndarray:
    """A photograph of scikit-image's wheel as OpenCV reads it: uint8 BGR or grey."""
    import skimage

    return cv2.imread(str(Path(skimage.__file__).parent / "data" / name), cv2.IMREAD_UNCHANGED)


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> Path:
    """Six small real photographs: odd sizes, one grey, PNG, JPEG and BMP, one in a subfolder."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "more").mkdir()
    cv2.imwrite(str(folder / "astronaut.png"), photograph("astronaut.png")[:97, 200:299])
    cv2.imwrite(str(folder / "camera.png"), photograph("camera.png")[100:200, 150:250])
    cv2.imwrite(str(folder / "chelsea.bmp"), photograph("chelsea.png")[50:153, 100:230])
    cv2.imwrite(str(folder / "coffee.jpg"), photograph("coffee.png")[100:200, 200:300])
    cv2.imwrite(str(folder / "rocket.png"), photograph("rocket.jpg")[:96, 300:400])
    cv2.imwrite(
        str(folder / "more" / "motorcycle.png"), photograph("motorcycle_left.png")[:96, :96]
    )
    return folder


@pytest.fixture(scope="session")
def valid_photos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("valid")
    cv2.imwrite(str(folder / "ihc.png"), photograph("ihc.png")[:101, :102])
    cv2.imwrite(str(folder / "retina.png"), photograph("retina.jpg")[600:700, 600:700])
    cv2.imwrite(str(folder / "zgrey.png"), photograph("brick.png")[:60, :64])
    return folder


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
def small_data(tmp_path_factory, ray_local, photos, valid_photos) -> Path:
    """A finished data set; tests must not change it."""
    out = tmp_path_factory.mktemp("data") / "small"
    prepare(data_settings(photos, valid_photos), str(out))
    return out
