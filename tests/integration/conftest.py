"""What the integration tests share."""

from pathlib import Path

import pytest

from tests.integration.test_path import CONFIG


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> Path:
    """A small experiment of two phases."""
    path = tmp_path_factory.mktemp("config") / "tiny.yaml"
    path.write_text(CONFIG)
    return path
