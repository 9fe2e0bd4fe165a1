"""What a local Ray needs: one line where it is missing."""

import os
import resource
import shutil

import pytest

from data_pipeline.platform import limits
from data_pipeline.platform.errors import UserError

GB = 1 << 30


@pytest.fixture
def shell(monkeypatch, tmp_path):
    """Sets a user's limits; all others are endless."""
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / "not yet there"))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(GB, 0, GB))

    def limit(found: dict[int, int]) -> None:
        endless = resource.RLIM_INFINITY
        monkeypatch.setattr(resource, "getrlimit", lambda kind: (found.get(kind, endless),) * 2)

    limit({})
    return limit


def test_without_limits_nothing_is_said(shell):
    limits.check_limits()
    assert limits.object_store_bytes() is None
    assert limits.told_limits() == ""


def test_a_full_temporary_folder(shell, monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(GB, GB, 64 << 10))
    with pytest.raises(UserError) as error:
        limits.check_limits()
    assert str(error.value) == (
        f"{tmp_path}: Ray's temporary folder has only 64 kB free and Ray needs 32 MB; make room, "
        "or set RAY_TMPDIR to another folder, with a short path"
    )


def test_a_temporary_folder_of_another_user(shell, monkeypatch, tmp_path):
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    with pytest.raises(UserError, match=f"^{tmp_path}: .* cannot be written; set RAY_TMPDIR to"):
        limits.check_limits()


def test_few_processes(shell, monkeypatch):
    shell({resource.RLIMIT_NPROC: 64})
    with pytest.raises(UserError, match=r"^ulimit -u 64: Ray needs 256 processes and threads, .*"):
        limits.check_limits()
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    limits.check_limits()


def test_little_address_space(shell):
    shell({resource.RLIMIT_AS: 1 * GB})
    with pytest.raises(UserError, match=r"^ulimit -v 1048576: Ray and TensorFlow need 4194304; "):
        limits.check_limits()
    shell({resource.RLIMIT_AS: 6 * GB, resource.RLIMIT_NOFILE: 1024})
    limits.check_limits()
    assert limits.object_store_bytes() == 6 * GB // 8
    assert limits.told_limits() == "ulimit -v 6291456, ulimit -n 1024"
    shell({resource.RLIMIT_AS: 64 * GB})
    assert limits.object_store_bytes() == GB
