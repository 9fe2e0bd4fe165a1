"""Downloads from a real server that misbehaves. What has to arrive is compared byte by byte."""

import hashlib
import logging
import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from data_pipeline.platform.errors import JobFailedError, UserError
from data_pipeline.prepare import download as download_module
from data_pipeline.prepare.download import Content, NotThereError, download
from tests.conftest import PATIENCE, ROOT
from tests.web_server import Fault, self_signed, serve

DATA = np.random.default_rng(0).bytes(200_000)
OTHER = np.random.default_rng(1).bytes(200_000)
SHA256, OTHER_SHA256 = (hashlib.sha256(data).hexdigest() for data in (DATA, OTHER))
CONTENT = Content(len(DATA), SHA256)
FINISHED = ["file.zip", "file.zip.sha256"]


@pytest.fixture(autouse=True)
def waits(monkeypatch) -> list[float]:
    """Seconds that downloads would wait between attempts."""
    found: list[float] = []
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(download_module.time, "sleep", found.append)
    monkeypatch.setattr(download_module, "_STALL_SECONDS", PATIENCE)
    return found


@pytest.fixture
def server():
    with serve(DATA) as script:
        yield script


@pytest.fixture
def target(tmp_path) -> Path:
    (tmp_path / "downloads").mkdir()
    return tmp_path / "downloads" / "file.zip"


@pytest.fixture
def part(target) -> Path:
    """The partial file, with the first 70,000 bytes."""
    path = target.parent / "file.zip.partial"
    path.write_bytes(DATA[:70_000])
    return path


def names(target: Path) -> list[str]:
    return sorted(os.listdir(target.parent))


def status(code: int, **headers: str) -> Fault:
    return Fault("status", status=code, headers=tuple(headers.items()))


def redirect(to: str) -> Fault:
    return status(302, Location=to)


def test_a_file_is_downloaded_verified_and_recorded_once(server, target, monkeypatch):
    for suffix in (".json", ".partial.json"):  # an earlier version's
        target.with_name(target.name + suffix).write_text("{}")
    download(server.url, target, CONTENT)
    assert target.read_bytes() == DATA
    assert (target.parent / "file.zip.sha256").read_text() == f"{SHA256}  file.zip\n"
    assert set(names(target)) == {*FINISHED, "file.zip.json", "file.zip.partial.json"}
    monkeypatch.setattr(download_module, "file_sha256", None)
    download(server.url, target, CONTENT)
    assert len(server.ranges) == 1


def test_goes_on_where_the_connection_broke(server, target):
    server.faults.extend([Fault("cut", 70_000), Fault("cut", 50_000)])
    download(server.url, target, CONTENT)
    assert target.read_bytes() == DATA
    assert names(target) == FINISHED
    assert server.ranges == [None, "bytes=70000-", "bytes=120000-"]


def test_goes_on_where_the_server_sends_no_more(server, target, monkeypatch):
    monkeypatch.setattr(download_module, "_STALL_SECONDS", 2)  # no busy machine takes so long
    server.faults.append(Fault("stall", 70_000))
    download(server.url, target, CONTENT)
    assert target.read_bytes() == DATA
    assert server.ranges == [None, "bytes=70000-"]


def test_survives_resets(server, target):
    server.faults.extend([Fault("reset", 60_000)] * 3)  # the kernel may drop some of the bytes
    download(server.url, target, CONTENT)
    assert target.read_bytes() == DATA
    assert len(server.ranges) == 4


def test_progress_renews_the_patience(server, target):
    server.faults.extend([Fault("cut", 10_000)] * 15)
    download(server.url, target, CONTENT)
    assert server.ranges[1:] == [f"bytes={10_000 * number}-" for number in range(1, 16)]


def test_a_server_without_ranges_starts_from_zero(server, target, part):
    server.knows_ranges = False
    server.faults.append(Fault("cut", 150_000))
    download(server.url, target, CONTENT)
    assert target.read_bytes() == DATA
    assert server.ranges == ["bytes=70000-", "bytes=150000-"]
    target.unlink()
    server.fault = Fault("cut", 150_000)
    with pytest.raises(JobFailedError, match="8 attempts brought nothing new"):
        download(server.url, target, CONTENT)  # the same bytes again are no progress
    assert len(server.ranges) == 2 + 9


@pytest.mark.parametrize("answer", [status(416), status(206, **{"Content-Range": "bytes 0-4/5"})])
def test_a_rest_that_does_not_fit_starts_from_zero(server, target, part, answer):
    server.faults.append(answer)
    download(server.url, target, CONTENT)
    assert target.read_bytes() == DATA
    assert server.ranges == ["bytes=70000-", None]


def test_gives_up_keeps_what_has_come_and_goes_on_later(server, target):
    server.faults.append(Fault("cut", 120_000))
    server.fault = status(503)
    with pytest.raises(JobFailedError) as error:
        download(server.url, target, CONTENT)
    assert str(error.value) == (
        f"{server.url}: the server answers 503 Service Unavailable; 8 attempts brought nothing "
        "new; 120 kB are kept, the same command goes on"
    )
    assert names(target) == ["file.zip.partial"]
    server.fault = None
    download(server.url, target, CONTENT)
    assert server.ranges[-1] == "bytes=120000-"
    assert target.read_bytes() == DATA


def test_killed_in_the_middle(server, target):
    server.faults.append(Fault("pause", 130_000))
    code = (
        "from pathlib import Path; from data_pipeline.prepare.download import Content, download; "
        f"download({server.url!r}, Path({str(target)!r}), Content{tuple(CONTENT)!r})"
    )
    part = target.parent / "file.zip.partial"
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT) as process:
        assert server.started.wait(PATIENCE)
        while not part.exists() or part.stat().st_size < 100_000:
            server.released.wait(0.01)
            assert process.poll() is None
        process.send_signal(signal.SIGKILL)
    kept = part.stat().st_size
    assert names(target) == ["file.zip.partial"]
    download(server.url, target, CONTENT)
    assert server.ranges[-1] == f"bytes={kept}-"
    assert target.read_bytes() == DATA


@pytest.mark.parametrize(
    "step",
    [
        "data_pipeline.prepare.download.file_sha256",
        "data_pipeline.prepare.download.Path.replace",
        "data_pipeline.prepare.download.Path.write_text",
    ],
)
def test_killed_after_the_last_byte(server, target, monkeypatch, step):
    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(step, stop)
        with pytest.raises(KeyboardInterrupt):
            download(server.url, target, CONTENT)
    download(server.url, target, CONTENT)
    assert len(server.ranges) == 1
    assert target.read_bytes() == DATA
    assert names(target) == FINISHED


def test_of_two_at_once_one_downloads(server, target, caplog):
    caplog.set_level(logging.INFO)
    server.faults.append(Fault("pause", 10_000))
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(download, server.url, target, CONTENT)
        assert server.started.wait(PATIENCE)
        second = pool.submit(download, server.url, target, CONTENT)
        waiting = f"{target}: waits for another process that makes it"
        while waiting not in caplog.messages:
            assert not first.done()
            server.released.wait(0.01)
        server.released.set()
        first.result()
        second.result()
    assert len(server.ranges) == 1
    assert target.read_bytes() == DATA


def test_another_content_than_the_expected_one(server, target):
    fix = r"; (run the same command again or )?pass another --mirror$"
    with pytest.raises(UserError, match=rf"^{server.url}: expected 7 bytes, found 200000{fix}"):
        download(server.url, target, Content(7, SHA256))
    for _ in range(2):  # the second call starts from zero again
        expected = f"^{server.url}: expected sha256 {OTHER_SHA256}, found {SHA256}{fix}"
        with pytest.raises(UserError, match=expected):
            download(server.url, target, Content(len(DATA), OTHER_SHA256))
        assert names(target) == []
    assert server.ranges == [None] * 3
    server.content, server.tells_size = DATA * 10, False
    with pytest.raises(UserError, match=rf"expected 1000 bytes, found \d{{4,6}}{fix}"):  # not all
        download(server.url, target, Content(1000, SHA256))
    assert names(target) == []


@pytest.mark.parametrize("wrong", [OTHER[:70_000], OTHER, OTHER + b"more"])
def test_a_partial_file_of_something_else_is_found_and_removed(server, target, part, wrong):
    part.write_bytes(wrong)
    with pytest.raises(UserError, match="run the same command again"):
        download(server.url, target, CONTENT)
    download(server.url, target, CONTENT)
    assert target.read_bytes() == DATA


def test_a_size_that_the_server_does_not_tell(server, target):
    server.tells_size = False
    server.faults.append(Fault("cut", 70_000))
    download(server.url, target, CONTENT)
    assert target.read_bytes() == DATA
    assert server.ranges == [None, "bytes=70000-"]


def test_a_file_that_a_person_put_there(server, target):
    for wrong in (DATA[:500], OTHER):
        target.write_bytes(wrong)
        for _ in range(2):
            fix = "delete it and run the same command again"
            with pytest.raises(UserError, match=f"^{target}: expected .*, found .*; {fix}"):
                download(server.url, target, CONTENT)
        assert target.read_bytes() == wrong
    target.write_bytes(DATA)
    download(server.url, target, CONTENT)
    assert names(target) == FINISHED
    assert server.ranges == []


def test_no_room_for_the_file(server, target, part, monkeypatch):
    with monkeypatch.context() as patch:
        usage = type("Usage", (), {"free": 50_000})
        patch.setattr(shutil, "disk_usage", lambda path: usage)
        with pytest.raises(JobFailedError) as error:
            download(server.url, target, CONTENT)
    assert str(error.value) == (
        f"{part}: the disk is full: 130 kB more are needed, 50 kB are free; make room, the same "
        "command goes on"
    )
    assert part.read_bytes() == DATA[:70_000]
    part.unlink()
    part.symlink_to("/dev/full")  # as if another process filled the disk meanwhile
    with pytest.raises(JobFailedError, match=r"the disk is full: .* the same command goes on"):
        download(server.url, target, CONTENT)
    part.unlink()
    download(server.url, target, CONTENT)
    assert target.read_bytes() == DATA


def test_a_place_that_cannot_be_written(server, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file/x.zip: Not a directory; choose another place"):
        download(server.url, tmp_path / "file" / "x.zip", CONTENT)


@pytest.mark.parametrize("code", [408, 429, 500, 503, 504])
def test_an_overloaded_server_is_asked_again(server, target, waits, code):
    retry_after = [{"Retry-After": text} for text in ("7", "90000", "soon")]
    server.faults.extend(status(code, **headers) for headers in ({}, {}, *retry_after, {}))
    download(server.url, target, CONTENT)
    assert target.read_bytes() == DATA
    assert waits == [1, 2, 7, 120, 16, 30]


@pytest.mark.parametrize("code", [400, 401, 403, 404, 410])
def test_a_refusal_is_final(server, target, code):
    server.fault = status(code)
    with pytest.raises(NotThereError if code == 404 else UserError) as error:
        download(server.url, target, CONTENT)
    assert str(error.value).startswith(f"{server.url}: the server answers {code} ")
    assert str(error.value).endswith("; pass another --mirror")
    assert len(server.ranges) == 1


def test_a_server_that_is_not_there(target):
    with pytest.raises(JobFailedError, match=r"Connection refused.*; 0 B are kept"):
        download("http://127.0.0.1:9/x.zip", target, CONTENT)


def test_redirects(server, target):
    server.faults.extend([redirect("/b"), redirect("/c")])
    download(server.url, target, CONTENT)
    assert server.paths == ["/file.zip", "/b", "/c"]
    for to, reason in (("/again", "too many redirects"), ("ftp://host/", "Not supported URL sche")):
        target.unlink(missing_ok=True)
        server.fault = redirect(to)
        with pytest.raises(UserError, match=rf"^{server.url}: {reason}.*; pass another --mirror"):
            download(server.url, target, CONTENT)
    assert len(server.paths) == 3 + 6 + 1


@pytest.mark.parametrize("url", ["ftp://host/x", "file:///etc/hostname", "http://", "http://["])
def test_only_web_addresses(url, target):
    with pytest.raises(UserError, match="; pass another --mirror"):
        download(url, target, CONTENT)
    assert names(target) == []


def test_an_address_with_a_password_is_not_shown(target):
    with pytest.raises(UserError) as error:
        download("https://me:secret@host/x.zip", target, CONTENT)
    assert str(error.value) == "https://host: takes no user and password; pass another --mirror"


def test_the_proxy_of_the_environment(server, target, monkeypatch):
    monkeypatch.setenv("http_proxy", server.url.removesuffix("/file.zip"))
    download("http://nowhere.invalid/x.zip", target, CONTENT)
    assert server.paths == ["http://nowhere.invalid/x.zip"]
    assert target.read_bytes() == DATA


def test_certificates_are_verified(tmp_path, target, monkeypatch):
    certificate = self_signed(tmp_path)
    with serve(DATA, certificate) as server:
        with pytest.raises(UserError, match=r"self.signed certificate.*; set SSL_CERT_FILE"):
            download(server.url, target, CONTENT)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        download(server.url, target, CONTENT)
    assert target.read_bytes() == DATA
