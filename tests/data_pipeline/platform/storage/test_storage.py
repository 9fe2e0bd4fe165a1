import errno
import os
import re
import socket
from pathlib import Path

import pytest

from data_pipeline.platform.errors import UserError
from data_pipeline.platform.storage import UnusableStorageError, open_storage, read_many


def test_objects_are_listed_in_order_and_deleted_with_their_empty_folders(tmp_path):
    storage = open_storage(str(tmp_path / "new"))
    assert storage.list() == []
    for key in ("b/2", "a", "b/10"):
        storage.write(key, key.encode())
    assert [found.key for found in storage.list()] == ["a", "b/10", "b/2"]
    assert [found.size for found in storage.list("b/")] == [4, 3]
    assert storage.read("b/10") == b"b/10"
    assert storage.size("b") is None
    storage.delete("b/2")
    storage.delete("b/10")
    storage.delete("b/10")
    assert os.listdir(tmp_path / "new") == ["a"]
    storage.delete("a")
    assert os.listdir(tmp_path) == []


def test_a_write_that_fails_leaves_the_old_object_and_nothing_else(tmp_path):
    storage = open_storage(str(tmp_path))
    storage.write("x", b"old")

    def fail():
        with storage.stage("x") as staged:
            staged.path.write_bytes(b"half")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert storage.read("x") == b"old"
    assert os.listdir(tmp_path) == ["x"]


@pytest.mark.parametrize("name", ["ENOSPC", "EDQUOT", "EROFS"])
def test_a_disk_that_takes_no_more_is_told_with_the_path(tmp_path, monkeypatch, name):
    number = getattr(errno, name)
    storage = open_storage(str(tmp_path))
    storage.write("x", b"old")

    def fail(_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    for write in (storage.write, lambda key, data: storage.write_new(f"{key}2", data)):
        with pytest.raises(UnusableStorageError) as error:
            write("x", b"new")
        assert str(error.value).startswith(f"{tmp_path}/x")
        assert str(error.value).endswith(
            f" on {socket.gethostname()}: cannot be written: {os.strerror(number)}; make room, or "
            "choose another place"
        )
    assert storage.read("x") == b"old"
    assert os.listdir(tmp_path) == ["x"]


@pytest.mark.parametrize("name", ["EIO", "ESTALE", "ETIMEDOUT"])
def test_an_error_of_a_network_file_system_may_pass(tmp_path, monkeypatch, name):
    number = getattr(errno, name)
    storage = open_storage(str(tmp_path))
    storage.write("x", b"old")

    def fail(*_, **__):
        raise OSError(number, os.strerror(number))

    for call, action in (
        ("fsync", lambda: storage.write("x", b"new")),
        ("open", lambda: storage.write("x", b"new")),
        ("scandir", storage.list),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(os, call, fail)
            with pytest.raises(OSError, match=re.escape(os.strerror(number))) as error:
                action()
        assert error.value.errno == number
        if call == "fsync":
            assert error.value.filename == f"{tmp_path}/x"
    assert storage.read("x") == b"old"


def test_an_error_of_another_file_is_not_blamed_on_the_object(tmp_path):
    storage = open_storage(str(tmp_path))
    source = OSError(errno.EIO, os.strerror(errno.EIO), "/elsewhere/photo.png")

    def fail():
        with storage.stage("x"):
            raise source

    with pytest.raises(OSError, match=r"photo\.png") as error:
        fail()
    assert error.value is source


def test_partial_files_are_no_objects_and_those_of_dead_writers_are_removed(tmp_path):
    storage = open_storage(str(tmp_path))
    with storage.stage("deep/x") as staged:
        staged.path.write_bytes(b"half")
        left = staged.path.with_name(".y.abc.partial")
        left.write_bytes(b"left by a killed writer")
        assert storage.list() == []
        storage.delete_partial()
        assert not left.exists()
        staged.path.write_bytes(b"whole")
    assert storage.read("deep/x") == b"whole"
    assert os.listdir(tmp_path / "deep") == ["x"]


def test_a_new_object_never_replaces_one(tmp_path):
    storage = open_storage(str(tmp_path))
    storage.write_new("x", b"first")
    with pytest.raises(FileExistsError):
        storage.write_new("x", b"second")
    assert storage.read("x") == b"first"
    assert os.listdir(tmp_path) == ["x"]


@pytest.mark.parametrize("key", ["../x", "a/../../x", "/x"])
def test_a_key_that_leads_out_of_the_folder_is_refused(key, tmp_path):
    """Keys come from manifests, which come from a bucket."""
    storage = open_storage(str(tmp_path / "inside"))
    (tmp_path / "x").write_bytes(b"outside")
    key = str(tmp_path / "x") if key == "/x" else key
    for use in (
        storage.read,
        storage.size,
        storage.delete,
        lambda key: storage.write(key, b"new"),
        lambda key: storage.write_new(key, b"new"),
        lambda key: list(storage.stream(key)),
    ):
        with pytest.raises(UserError, match="leads out of it"):
            use(key)
    assert (tmp_path / "x").read_bytes() == b"outside"


def test_many_are_read_in_order(tmp_path):
    storage = open_storage(str(tmp_path))
    expected = {f"{number:02}": b"%d" % number for number in range(20)}
    for key, data in expected.items():
        storage.write(key, data)
    assert list(read_many(storage, list(expected)).items()) == list(expected.items())
    assert read_many(storage, []) == {}
    with pytest.raises(FileNotFoundError):
        read_many(storage, ["00", "none"])


def test_a_folder_goes_with_all_that_is_in_it(tmp_path):
    storage = open_storage(str(tmp_path / "run"))
    for key in ("dry/a/x", "dry/y", "dryer/z"):
        storage.write(key, b"x")
    (tmp_path / "run/dry/empty").mkdir()
    (tmp_path / "run/dry/.y.abc.partial").write_bytes(b"half")
    storage.delete_folder("dry")
    assert os.listdir(tmp_path / "run") == ["dryer"]
    storage.delete_folder("dry")
    storage.delete_folder("dryer")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("umask", [0o022, 0o007, 0o077])
def test_new_objects_have_the_permissions_of_any_new_file(tmp_path, umask):
    storage = open_storage(str(tmp_path))
    before = os.umask(umask)
    try:
        storage.write("written", b"")
        storage.write_new("new", b"")
        (tmp_path / "usual").touch()
    finally:
        os.umask(before)
    modes = {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == {0o666 & ~umask}


def test_what_cannot_be_opened_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="is a file"):
        open_storage(str(tmp_path / "file"))
    with pytest.raises(UserError, match="an empty path"):
        open_storage("")
    with pytest.raises(UserError, match="gs://bucket/x: gs:// is not supported"):
        open_storage("gs://bucket/x")


def test_relative_paths_are_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert open_storage("here").uri == str(tmp_path / "here")


def test_a_file_that_vanishes_while_it_is_listed_is_left_out(tmp_path, monkeypatch):
    for name in "abc":
        (tmp_path / name).write_bytes(b"1")
    look = Path.lstat

    def vanish(path):
        if path.name == "b":
            path.unlink(missing_ok=True)
        return look(path)

    monkeypatch.setattr(Path, "lstat", vanish)
    assert [found.key for found in open_storage(str(tmp_path)).list()] == ["a", "c"]


def test_only_a_source_is_listed_beyond_links_and_as_new_as_its_folders(tmp_path):
    data, outside = tmp_path / "data", tmp_path / "outside"
    for folder in (data, outside):
        folder.mkdir()
        (folder / "a").write_bytes(b"1")
    (data / "link").symlink_to(outside)
    (data / "file").symlink_to(outside / "a")
    (tmp_path / "root").symlink_to(data)
    storage = open_storage(str(tmp_path / "root"))
    assert [found.key for found in storage.list()] == ["a", "file"]
    source = open_storage(str(tmp_path / "root"), follow_links=True)
    assert [found.key for found in source.list()] == ["a", "file", "link/a"]
    os.chmod(data, 0o700)  # changes the folder's ctime
    (mine, *_), (theirs, *_) = storage.list(), source.list()
    assert mine.changed == os.stat(data / "a").st_ctime
    assert theirs.changed >= os.stat(data).st_ctime >= mine.changed
