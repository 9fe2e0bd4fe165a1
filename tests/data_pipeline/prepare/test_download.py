"""Downloads from a real server that misbehaves. What has to arrive is compared byte by byte."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from data_pipeline.platform.errors import JobFailedError, UserError
from data_pipeline.prepare import download as download_module
from data_pipeline.prepare.download import download
from tests.conftest import ROOT
from tests.web_server import Fault, serve

CONTENT = np.random.default_rng(0).bytes(200_000)
OTHER = np.random.default_rng(1).bytes(200_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr("data_pipeline.prepare.download._LONGEST_WAIT_SECONDS", 0.002)
    monkeypatch.setattr("data_pipeline.prepare.web._STALL_SECONDS", 0.3)


@pytest.fixture
def server():
    with serve(CONTENT) as script:
        yield script


@pytest.fixture
def target(tmp_path) -> Path:
    return tmp_path / "downloads" / "file.zip"


def names(target: Path) -> list[str]:
    return sorted(os.listdir(target.parent))


FINISHED = ["file.zip", "file.zip.json", "file.zip.lock"]
BEGUN = ["file.zip.lock", "file.zip.partial", "file.zip.partial.json"]


def test_a_file_is_downloaded_and_read_once_and_recorded(server, target, monkeypatch):
    assert download(server.url, target, size=len(CONTENT), sha256=SHA256) == SHA256
    assert target.read_bytes() == CONTENT
    record = json.loads((target.parent / "file.zip.json").read_text())
    assert record == {"url": server.url, "bytes": len(CONTENT), "sha256": SHA256}
    assert names(target) == FINISHED
    monkeypatch.setattr(download_module, "hashlib", None)
    assert download(server.url, target, size=len(CONTENT), sha256=SHA256) == SHA256
    assert download(server.url, target) == SHA256
    assert len(server.requests) == 1


@pytest.mark.parametrize("kind", ["cut", "stall"])
def test_goes_on_where_the_connection_broke(server, target, kind):
    server.faults.extend([Fault(kind, 70_000), Fault(kind, 50_000)])
    assert download(server.url, target) == SHA256
    assert target.read_bytes() == CONTENT
    assert names(target) == FINISHED
    assert [request.range for request in server.requests] == [None, "bytes=70000-", "bytes=120000-"]
    assert [request.if_range for request in server.requests] == [None, '"first"', '"first"']
    assert server.sent == [70_000, 50_000, 80_000]


def test_survives_resets(server, target):
    server.faults.extend([Fault("reset", 60_000)] * 3)  # the kernel may drop some of the bytes
    assert download(server.url, target) == SHA256
    assert target.read_bytes() == CONTENT
    assert len(server.requests) == 4


def test_progress_renews_the_patience(server, target, monkeypatch):
    monkeypatch.setattr("data_pipeline.prepare.download._ATTEMPTS", 2)
    server.faults.extend([Fault("cut", 10_000)] * 15)
    assert download(server.url, target) == SHA256
    assert len(server.requests) == 16
    assert sum(server.sent) == len(CONTENT)


def test_a_server_without_ranges_starts_from_zero(server, target):
    server.knows_ranges = False
    server.faults.append(Fault("cut", 150_000))
    assert download(server.url, target) == SHA256
    assert target.read_bytes() == CONTENT
    assert server.sent == [150_000, 200_000]


def test_the_same_bytes_again_are_no_progress(server, target):
    server.knows_ranges = False
    server.fault = Fault("cut", 150_000)
    with pytest.raises(JobFailedError, match="8 attempts brought nothing new"):
        download(server.url, target)
    assert len(server.requests) == 9


def test_gives_up_keeps_what_has_come_and_goes_on_later(server, target):
    server.faults.append(Fault("cut", 120_000))
    server.fault = Fault("status", status=503)
    with pytest.raises(JobFailedError) as error:
        download(server.url, target)
    assert str(error.value) == (
        f"{server.url}: the server answers 503 Service Unavailable; 8 attempts brought nothing "
        "new; 120 kB are kept, the same command goes on"
    )
    assert names(target) == BEGUN
    assert (target.parent / "file.zip.partial").read_bytes() == CONTENT[:120_000]
    server.fault, server.requests[:], server.sent[:] = None, [], []
    assert download(server.url, target) == SHA256
    assert [request.range for request in server.requests] == ["bytes=120000-"]
    assert server.sent == [80_000]
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("knows_if_range", [True, False])
@pytest.mark.parametrize("validator", ["etag", "last_modified"])
def test_a_file_that_changed_is_not_spliced(server, target, validator, knows_if_range):
    server.etag = None
    server.knows_if_range = knows_if_range
    setattr(server, validator, '"1"' if validator == "etag" else "Tue, 14 Feb 2017 14:27:11 GMT")
    server.fault = Fault("cut", 20_000)

    def change():
        server.content, server.fault = OTHER, None
        setattr(
            server, validator, '"2"' if validator == "etag" else "Wed, 15 Feb 2017 14:27:11 GMT"
        )

    server.faults.extend([Fault("cut", 20_000), Fault("stall", 30_000)])
    changer = threading.Thread(target=lambda: server.started.wait(10) and change())
    changer.start()
    assert download(server.url, target) == hashlib.sha256(OTHER).hexdigest()
    changer.join()
    assert target.read_bytes() == OTHER
    assert server.requests[2].range == "bytes=50000-"


def test_a_file_that_became_shorter_starts_anew(server, target):
    server.fault = Fault("cut", 0)
    server.faults.append(Fault("cut", 150_000))
    with pytest.raises(JobFailedError):
        download(server.url, target)
    server.content, server.fault, server.knows_if_range = OTHER[:100_000], None, False
    download(server.url, target)  # 416 on the way
    assert target.read_bytes() == OTHER[:100_000]


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
def test_without_a_strong_validator_nothing_is_resumed(server, target, etag):
    server.etag = etag
    server.faults.append(Fault("cut", 150_000))
    assert download(server.url, target) == SHA256
    assert [request.range for request in server.requests] == [None, None]


def test_another_address_does_not_go_on_with_the_partial_file(server, target):
    server.faults.append(Fault("cut", 150_000))
    server.fault = Fault("cut", 0)
    with pytest.raises(JobFailedError):
        download(server.url, target)
    with serve(OTHER) as mirror:
        download(mirror.url, target)
        assert [request.range for request in mirror.requests] == [None]
    assert target.read_bytes() == OTHER


def test_killed_in_the_middle(server, target):
    server.faults.append(Fault("stall", 130_000))
    code = (
        "from pathlib import Path; from data_pipeline.prepare.download import download; "
        f"download({server.url!r}, Path({str(target)!r}))"
    )
    partial = target.parent / "file.zip.partial"
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT) as process:
        assert server.started.wait(30)
        while not partial.exists() or partial.stat().st_size < 100_000:
            time.sleep(0.01)
            assert process.poll() is None
        process.send_signal(signal.SIGKILL)
    kept = partial.stat().st_size
    assert names(target) == BEGUN
    assert download(server.url, target) == SHA256
    assert server.requests[-1].range == f"bytes={kept}-"
    assert server.sent[-1] == len(CONTENT) - kept
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("step", ["_verify", "_discard", "_write_json"])
def test_killed_after_the_last_byte(server, target, monkeypatch, step):
    def stop(path, *rest):
        if step != "_write_json" or path == target.parent / "file.zip.json":
            raise KeyboardInterrupt
        write_json(path, *rest)

    write_json = download_module._write_json
    with monkeypatch.context() as patch:
        patch.setattr(download_module, step, stop)
        with pytest.raises(KeyboardInterrupt):
            download(server.url, target, sha256=SHA256)
    assert download(server.url, target) == SHA256
    assert len(server.requests) == 1
    assert target.read_bytes() == CONTENT
    assert names(target)[:3] == FINISHED


def test_of_two_at_once_one_downloads(server, target):
    server.faults.append(Fault("pause", 10_000))
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(download, server.url, target)
        assert server.started.wait(10)
        second = pool.submit(download, server.url, target)
        assert not second.done()
        server.released.set()
        assert first.result() == second.result() == SHA256
    assert len(server.requests) == 1
    assert target.read_bytes() == CONTENT


def test_another_file_than_the_expected_one(server, target):
    with pytest.raises(UserError, match=rf"^{server.url}: expected 7 bytes, found 200000; run the"):
        download(server.url, target, size=7)
    wrong = hashlib.sha256(OTHER).hexdigest()
    for _ in range(2):  # the second call starts from zero again
        with pytest.raises(UserError, match=f"expected sha256 {wrong}, found {SHA256}; "):
            download(server.url, target, sha256=wrong)
        assert names(target) == ["file.zip.lock"]
    assert [request.range for request in server.requests] == [None] * 3
    server.content, server.tells_size = CONTENT * 10, False
    with pytest.raises(UserError, match=r"expected 1000 bytes, found \d{4,6}; run"):  # not all
        download(server.url, target, size=1000)
    assert names(target) == ["file.zip.lock"]


def test_the_recorded_checksum_outlives_the_file(server, target):
    download(server.url, target)
    target.unlink()
    assert download(server.url, target) == SHA256
    target.unlink()
    server.content, server.etag = OTHER, '"other"'
    found = hashlib.sha256(OTHER).hexdigest()
    with pytest.raises(UserError) as error:
        download(server.url, target)
    assert str(error.value) == (
        f"{target}.partial: expected sha256 {SHA256}, found {found}; delete {target}.json if the "
        "publisher really changed the file"
    )
    assert names(target) == FINISHED[1:]
    (target.parent / "file.zip.json").unlink()
    assert download(server.url, target) == found


def test_a_file_that_was_put_there_by_hand(server, target):
    target.parent.mkdir()
    target.write_bytes(CONTENT)
    assert download(server.url, target, sha256=SHA256) == SHA256
    with pytest.raises(UserError, match=f"expected sha256 {'0' * 64}, found {SHA256}; delete it"):
        download(server.url, target, sha256="0" * 64)
    target.write_bytes(OTHER[:500])
    for expected in (SHA256, None):
        with pytest.raises(UserError, match=r"file.zip: expected .* delete it and run the same"):
            download(server.url, target, sha256=expected)
    assert target.read_bytes() == OTHER[:500]
    assert server.requests == []


def test_no_room_for_the_file(server, target, monkeypatch):
    usage = type("Usage", (), {"free": 50_000})
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda path: usage)
        with pytest.raises(JobFailedError, match="200 kB more are needed, 50 kB are free; make"):
            download(server.url, target)
    partial = target.parent / "file.zip.partial"
    partial.unlink()
    partial.symlink_to("/dev/full")  # as if another process filled the disk meanwhile
    with pytest.raises(JobFailedError, match=r"the disk is full: .* the same command goes on"):
        download(server.url, target)
    partial.unlink()
    assert download(server.url, target) == SHA256


def test_what_cannot_be_written_or_read(server, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file/x.zip: Not a directory; choose another place"):
        download(server.url, tmp_path / "file" / "x.zip")
    (tmp_path / "x.zip.json").write_text("{")
    with pytest.raises(UserError, match=r"x.zip.json: does not read; delete it"):
        download(server.url, tmp_path / "x.zip")
    assert server.requests == []
