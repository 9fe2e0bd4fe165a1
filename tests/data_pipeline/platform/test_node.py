import logging
import os
import re
import threading
from pathlib import Path

import pytest

from data_pipeline.platform.errors import UserError
from data_pipeline.platform.node import locked_file, node_folder, node_lock, remove_unlocked
from tests.conftest import PATIENCE


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("SRGAN_CACHE", str(tmp_path / "node"))
    return tmp_path / "node"


def test_a_folder_of_another_user_is_refused(cache, monkeypatch):
    assert node_folder("scratch") == cache / "scratch"
    monkeypatch.setattr(os, "access", lambda path, mode: path != cache / "scratch")
    assert node_folder("shards") == cache / "shards"
    with pytest.raises(UserError) as error:
        node_folder("scratch")
    assert str(error.value) == (
        f"{cache}/scratch: cannot be made or written (Permission denied); set SRGAN_CACHE to a "
        "folder of your own on a local disk"
    )


def test_a_file_is_kept_while_its_handle_is_open(tmp_path):
    handle, path = locked_file(tmp_path, "before-", ".after")
    assert re.fullmatch(r"before-[0-9a-f]{12}\.after", path.name)
    assert not remove_unlocked(path)
    os.close(handle)
    assert remove_unlocked(path)
    assert not path.exists()


def test_one_thread_at_a_time_is_in_a_lock(caplog):
    caplog.set_level(logging.INFO)
    inside, entered = [], threading.Event()

    def enter() -> None:
        with node_lock("x", "waits for the test"):
            inside.append("thread")
            entered.set()

    with node_lock("x", "never said"):
        thread = threading.Thread(target=enter)
        thread.start()
        while not caplog.messages:  # it waits
            thread.join(0.01)
        inside.append("test")
    assert entered.wait(PATIENCE)
    thread.join()
    assert inside == ["test", "thread"]
    assert caplog.messages == ["waits for the test"]
