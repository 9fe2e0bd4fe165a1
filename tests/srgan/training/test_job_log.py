"""RUN/logs: the copy of a job's log."""

import os
import tempfile
import time

import pytest

from data_pipeline.platform.errors import UserError
from data_pipeline.platform.storage import open_storage
from srgan.training.job_log import copied_log
from tests.conftest import PATIENCE

BEGAN = 1_700_000_000.0
KEY = "logs/2023-11-14T22-13-20Z.log"


def fail(run):
    with copied_log(run, BEGAN + 1):
        os.write(2, b"epoch 2\n")
        raise UserError("s3://x: is full")


@pytest.fixture
def stderr_to(capfd):
    """Makes file descriptor 2 another file for a test."""
    before = os.dup(2)

    def lead(handle: int) -> None:
        os.dup2(handle, 2)

    yield lead
    os.dup2(before, 2)
    os.close(before)


def test_what_is_written_during_the_job_is_copied(tmp_path, stderr_to):
    log, run = tmp_path / "a log.txt", open_storage(str(tmp_path / "run"))
    log.write_bytes(b"of an earlier job\n")
    with log.open("ab") as file:
        stderr_to(file.fileno())
        with copied_log(run, BEGAN):
            os.write(2, "epoch 1: 25 dB \u00e9\n".encode())
        first = run.read(KEY).decode().splitlines()
        with pytest.raises(UserError):
            fail(run)
        second = run.read(run.list("logs/")[1].key).decode().splitlines()
    assert first[0] == "epoch 1: 25 dB \u00e9"
    assert [line[8:] for line in first[1:]] == [" the job ends"]
    assert second[0] == "epoch 2"
    assert [line[8:] for line in second[1:]] == [" the job ends: UserError s3://x: is full"]


def test_a_log_is_copied_while_the_job_goes_on(tmp_path, stderr_to, monkeypatch):
    """The node may go without a word."""
    monkeypatch.setattr("srgan.training.job_log._SECONDS_BETWEEN_COPIES", 0.01)
    run = open_storage(str(tmp_path / "run"))
    deadline = time.monotonic() + PATIENCE
    with (tmp_path / "log").open("wb") as file:
        stderr_to(file.fileno())
        with copied_log(run, BEGAN):
            os.write(2, b"epoch 1\n")
            while run.size(KEY) is None or b"epoch 1" not in run.read(KEY):
                assert time.monotonic() < deadline
            assert b"the job goes on" in run.read(KEY)
    assert b"the job ends" in run.read(KEY)


def test_a_log_without_a_name_is_not_copied(tmp_path, stderr_to):
    run = open_storage(str(tmp_path / "run"))
    with (tmp_path / "log").open("wb") as file:
        (tmp_path / "log").unlink()
        stderr_to(file.fileno())
        with copied_log(run, BEGAN):
            os.write(2, b"epoch 1\n")
    assert list(run.list("logs/")) == []


def test_a_long_log_keeps_its_end(tmp_path, stderr_to, monkeypatch):
    monkeypatch.setattr("srgan.training.job_log._MOST_BYTES", 10)
    run = open_storage(str(tmp_path / "run"))
    with (tmp_path / "log").open("wb") as file:
        stderr_to(file.fileno())
        with copied_log(run, BEGAN):
            os.write(2, b"0123456789abcde\n")
    assert run.read(KEY).splitlines()[0] == b"6789abcde"


def test_a_log_that_is_no_file_or_cannot_be_copied_ends_nothing(tmp_path, stderr_to, caplog):
    run = open_storage(str(tmp_path / "run"))
    reader, writer = os.pipe()
    stderr_to(writer)
    with copied_log(run, BEGAN):
        pass
    with tempfile.TemporaryFile(dir=tmp_path) as nameless:
        stderr_to(nameless.fileno())
        with copied_log(run, BEGAN):
            pass
    assert run.list() == []
    os.close(reader)
    os.close(writer)
    (tmp_path / "run").write_text("a file where RUN should be")
    with (tmp_path / "log").open("wb") as file:
        stderr_to(file.fileno())
        with copied_log(run, BEGAN):
            pass
    assert "the log cannot be copied there" in caplog.text
