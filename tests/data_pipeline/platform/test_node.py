import errno
import fcntl
import logging
import os
import pwd
import re
import tempfile
import threading
from pathlib import Path

import pytest

from data_pipeline.platform.errors import UserError
from data_pipeline.platform.node import (
    locked_file,
    node_folder,
    node_lock,
    remove_unlocked,
    scratch_file,
)
from tests.conftest import PATIENCE


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("SRGAN_CACHE", str(tmp_path / "node"))
    return tmp_path / "node"


@pytest.fixture
def spare(tmp_path, monkeypatch) -> Path:
    """What stands in for a home: in the temporary folder."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    return tmp_path / "tmp" / f"srgan-{os.geteuid()}"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_a_second_user_has_folders_of_their_own(cache):
    node_folder("locks")
    os.chown(cache / "locks", 4242, 4242)
    own = cache / f"user-{os.geteuid()}"
    assert node_folder("locks") == own / "locks"
    assert own.stat().st_mode & 0o777 == 0o700
    with node_lock("x"):
        assert (own / "locks" / "x").exists()
    assert not list((cache / "locks").iterdir())
    os.chown(own, 4242, 4242)  # shards in it would be another user's
    with pytest.raises(UserError, match=r"locks: cannot be made or written .*; set SRGAN_CACHE"):
        node_folder("locks")


@pytest.mark.parametrize("home", [None, "/proc"])  # nobody, root included, can write to /proc
def test_without_a_home_the_folder_is_in_the_temporary_one(spare, monkeypatch, caplog, home):
    monkeypatch.delenv("SRGAN_CACHE")
    if home:
        monkeypatch.setenv("HOME", home)
    else:
        monkeypatch.delenv("HOME")
        monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)
    for name in ("shards", "locks"):
        assert node_folder(name) == spare / name
    assert spare.stat().st_mode & 0o777 == 0o700
    # Ray's own lines come when they like.
    (line,) = (one.getMessage() for one in caplog.records if one.name.startswith("data_pipeline"))
    assert line.startswith(f"{spare} is the node's folder, as this user has no home")
    other = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: other)
    os.symlink(spare, tempfile.gettempdir() + f"/srgan-{other}")  # set by another user
    with pytest.raises(UserError, match=r"cannot be made or written .*; set SRGAN_CACHE to a"):
        node_folder("shards")


def test_a_tilde_without_a_home_is_refused(monkeypatch):
    monkeypatch.setenv("SRGAN_CACHE", "~/cache")
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)
    with pytest.raises(UserError, match=r"^SRGAN_CACHE=~/cache: this user has no home folder; "):
        node_folder("shards")


def test_locks_hold_on_a_file_system_without_any(cache, spare, monkeypatch):
    """This one fails as an NFS server without a lock service does."""
    flock = fcntl.flock

    def no_locks_in_the_cache(file, kind) -> None:
        handle = file if isinstance(file, int) else file.fileno()
        if os.readlink(f"/proc/self/fd/{handle}").startswith(str(cache)):
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
        flock(handle, kind)

    monkeypatch.setattr(fcntl, "flock", no_locks_in_the_cache)
    with node_lock("x"), (spare / "locks" / "x").open("wb") as file, pytest.raises(BlockingIOError):
        flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with scratch_file("y") as path:
        assert not remove_unlocked(path)
    assert not path.exists()


def test_a_folder_that_cannot_be_written_is_refused(cache, monkeypatch):
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
