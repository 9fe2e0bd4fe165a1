"""What the integration tests share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.radosgw import missing_programs, radosgw
from tests.integration.test_path import CONFIG
from tests.s3_servers import S3Server


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> Path:
    """A small experiment of two phases."""
    path = tmp_path_factory.mktemp("config") / "tiny.yaml"
    path.write_text(CONFIG)
    return path


@pytest.fixture(scope="module")
def ceph_folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("radosgw")


@pytest.fixture(scope="module")
def ceph(ceph_folder) -> Iterator[S3Server]:
    if missing := missing_programs():
        pytest.skip(f"radosgw needs {', '.join(missing)}")
    with radosgw(ceph_folder) as server:
        yield server
