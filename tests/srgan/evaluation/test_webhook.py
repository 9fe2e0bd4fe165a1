"""Alerts that are posted to a real server, which misbehaves. No message quotes the URL's path."""

import json
import logging
import socket
import threading
from base64 import b64encode

import pytest

from srgan.evaluation import webhook
from srgan.evaluation.webhook import check_webhook, post_json
from tests.conftest import PATIENCE
from tests.web_server import Fault, self_signed, serve

CONTENT = {"run": "s3://bucket/läuft", "alerts": ["epoch 2: psnr_y is 20.1, below 30"]}
SECRET = "T0KEN"


@pytest.fixture(autouse=True)
def waits(monkeypatch) -> list[float]:
    """Seconds that attempts would wait."""
    found: list[float] = []
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(webhook.time, "sleep", found.append)
    monkeypatch.setattr(webhook, "_TIMEOUT", PATIENCE)
    return found


@pytest.fixture
def server():
    with serve(b"") as running:
        yield running


def secret(url: str) -> str:
    """A webhook's URL below a server's."""
    return url.replace("/file.zip", f"/hook/{SECRET}?key={SECRET}")


@pytest.fixture
def lines(caplog):
    """The log's lines of all levels, urllib3's too; none has the secret."""
    caplog.set_level(logging.WARNING)
    yield lambda: [record.getMessage() for record in caplog.records]
    assert SECRET not in caplog.text


def test_the_object_is_posted_as_json(server, lines):
    assert post_json(secret(server.url).replace("//", f"//me:{SECRET}@"), CONTENT)
    ((headers, body),) = server.posts
    assert json.loads(body) == CONTENT
    assert headers["content-type"] == "application/json"
    assert headers["authorization"] == "Basic " + b64encode(f"me:{SECRET}".encode()).decode()
    assert server.paths == [f"/hook/{SECRET}?key={SECRET}"]
    assert lines() == []


def test_a_password_may_have_any_letters(server, lines):
    assert post_json(server.url.replace("//", "//me:%E4%B8%AD@"), CONTENT)
    ((headers, _),) = server.posts
    assert headers["authorization"] == "Basic " + b64encode("me:中".encode()).decode()


def test_a_proxy_whose_password_cannot_be_sent(lines, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://me:%E4%B8%AD@127.0.0.1:9")
    assert not post_json(f"http://chat.invalid/{SECRET}", CONTENT)
    reason = "the proxy's password is not Latin-1"
    assert lines() == [f"the alert is not posted to http://chat.invalid: {reason}"]


def test_malformed_headers_do_not_bring_the_url_to_the_log(lines):
    """urllib3 itself would log the URL and a traceback."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer():
            with listener.accept()[0] as connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nno header\r\nContent-Length: 0\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        assert post_json(f"http://127.0.0.1:{listener.getsockname()[1]}/{SECRET}", CONTENT)
        thread.join()
    assert lines() == []


@pytest.mark.parametrize("status", [429, 503])
def test_an_overloaded_server_is_asked_again(status, server, lines, waits):
    server.faults.extend([Fault("status", status=status)] * 2)
    assert post_json(secret(server.url), CONTENT)
    assert [json.loads(body) for _, body in server.posts] == [CONTENT] * 3
    assert lines() == []
    assert waits == [0, 1, 4]


@pytest.mark.parametrize(
    ("fault", "attempts", "reason"),
    [
        (Fault("status", status=503), 3, "the server answers 503 Service Unavailable"),
        (Fault("status", status=404), 1, "the server answers 404 Not Found"),
        (Fault("status", status=299 + 300), 1, "the server answers 599"),
        (
            Fault("status", status=307, headers=(("Location", f"/elsewhere/{SECRET}"),)),
            1,
            "the server answers 307 Temporary Redirect; it has moved: pass its new URL",
        ),
    ],
)
def test_a_refusal_is_one_warning(fault, attempts, reason, server, lines):
    server.fault = fault
    assert not post_json(secret(server.url), CONTENT)
    assert lines() == [f"the alert is not posted to http://127.0.0.1: {reason}"]
    assert server.paths == [f"/hook/{SECRET}?key={SECRET}"] * attempts


def test_a_server_that_hangs_is_given_up(server, lines, monkeypatch):
    monkeypatch.setattr(webhook, "_TIMEOUT", 0.2)
    server.fault = Fault("stall")
    assert not post_json(secret(server.url), CONTENT)
    (line,) = lines()
    assert line == "the alert is not posted to http://127.0.0.1: it does not answer within 0.2 s"


def test_a_connection_that_is_refused_or_a_host_that_is_unknown(lines):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/hook/{SECRET}"
    assert not post_json(url, CONTENT)
    assert not post_json(f"https://nowhere.invalid/{SECRET}", CONTENT)
    refused, unknown = lines()
    assert refused == "the alert is not posted to http://127.0.0.1: Connection refused"
    assert unknown.startswith("the alert is not posted to https://nowhere.invalid: ")


def test_https_is_verified(tmp_path, lines, monkeypatch):
    certificate = self_signed(tmp_path)
    with serve(b"", certificate) as server:
        assert not post_json(secret(server.url), CONTENT)
        (line,) = lines()
        assert "certificate verify failed" in line
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert post_json(secret(server.url), CONTENT)
    assert len(server.posts) == 1


@pytest.mark.parametrize(
    "url", [f"hooks/{SECRET}", f"ftp://host/{SECRET}", f"https:///{SECRET}", f"http://[{SECRET}"]
)
def test_what_is_no_web_address_is_refused_unquoted(url):
    with pytest.raises(ValueError, match="expected the URL of a webhook") as error:
        check_webhook(url)
    assert SECRET not in str(error.value)
