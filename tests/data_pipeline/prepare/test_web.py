import datetime
import ipaddress
import logging
import ssl
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from data_pipeline.platform.errors import JobFailedError, UserError
from data_pipeline.platform.progress import BYTES, Progress
from data_pipeline.prepare import download as download_module
from data_pipeline.prepare.download import download
from data_pipeline.prepare.web import TryAgainError, get
from tests.web_server import Fault, serve


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serve(b"content") as script:
        yield script


def read(url: str) -> bytes:
    with get(url, None, 0, None) as body:
        return b"".join(body.blocks)


def redirect(to: str) -> Fault:
    return Fault("status", status=302, headers=(("Location", to),))


@pytest.mark.parametrize("status", [408, 429, 500, 503, 504])
def test_an_overloaded_server_is_asked_again(server, tmp_path, monkeypatch, status):
    waits = []
    monkeypatch.setattr(download_module.time, "sleep", waits.append)
    server.faults.append(Fault("status", status=status))
    server.faults.append(Fault("status", status=status, headers=(("Retry-After", "7"),)))
    server.faults.append(Fault("status", status=status, headers=(("Retry-After", "90000"),)))
    server.faults.append(Fault("status", status=status, headers=(("Retry-After", "soon"),)))
    download(server.url, tmp_path / "x.zip")
    assert (tmp_path / "x.zip").read_bytes() == b"content"
    assert 1 <= waits[0] <= 2
    assert waits[1:3] == [7, 120]
    assert 8 <= waits[3] <= 16  # twice as long each time


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
def test_a_refusal_is_final(server, tmp_path, status):
    server.fault = Fault("status", status=status)
    with pytest.raises(UserError) as error:
        download(server.url, tmp_path / "x.zip")
    assert str(error.value).startswith(f"{server.url}: the server answers {status} ")
    assert str(error.value).endswith("; pass another --mirror")
    assert len(server.requests) == 1


def test_a_server_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(download_module, "_FIRST_WAIT_SECONDS", 0)
    with pytest.raises(JobFailedError, match=r"Connection refused.*; 0 B are kept"):
        download("http://127.0.0.1:9/x.zip", tmp_path / "x.zip")


def test_redirects(server):
    server.faults.extend([redirect("/b"), redirect("/c")])
    assert read(server.url) == b"content"
    assert [request.path for request in server.requests] == ["/file.zip", "/b", "/c"]
    server.fault = redirect("/again")
    with pytest.raises(UserError, match="too many redirects; pass another --mirror"):
        read(server.url)
    assert len(server.requests) == 3 + 6
    server.fault = redirect("ftp://host/x.zip")
    with pytest.raises(UserError, match=r"Not supported URL scheme ftp; pass another --mirror"):
        read(server.url)


@pytest.mark.parametrize("url", ["ftp://host/x", "file:///etc/hostname", "x.zip", "http://", "h:["])
def test_only_web_addresses(url, tmp_path):
    with pytest.raises(UserError, match="is no http or https address"):
        download(url, tmp_path / "x.zip")
    assert list(tmp_path.iterdir()) == []


def test_a_size_that_the_server_does_not_tell(server):
    server.tells_size = False
    with pytest.raises(UserError, match="does not tell the file's size"):
        read(server.url)
    with get(server.url, None, 0, 7) as body:
        assert (body.remote.bytes, b"".join(body.blocks)) == (7, b"content")


def test_the_proxy_of_the_environment(server, monkeypatch):
    monkeypatch.setenv("http_proxy", server.url.removesuffix("/file.zip"))
    assert read("http://nowhere.invalid/x.zip") == b"content"
    assert server.requests[0].path == "http://nowhere.invalid/x.zip"


def test_certificates_are_verified(tmp_path, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    certificate = self_signed(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        url = f"https://127.0.0.1:{server.server_port}/x.zip"
        threading.Thread(target=server.serve_forever, args=(0.02,)).start()
        try:
            with pytest.raises(UserError, match=r"self.signed certificate.*; set SSL_CERT_FILE"):
                read(url)
            monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
            with pytest.raises(TryAgainError, match="501"):  # a handshake that holds
                read(url)
        finally:
            server.shutdown()


def self_signed(folder):
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), serial_number=1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(address, critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "server.pem"
    path.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path


def test_progress_in_a_log(monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    now = [0.0]
    monkeypatch.setattr("data_pipeline.platform.progress.time.monotonic", lambda: now[0])
    with Progress("DIV2K_train_HR.zip", 3_530_603_713, BYTES, done=1_000_000_000) as progress:
        progress.advance(1)
        now[0] = 20.0
        progress.advance(220_000_000 - 1)
    with Progress("prepare", 1, "parts") as progress:
        now[0] += 2
        progress.advance()
    assert caplog.messages == [
        "DIV2K_train_HR.zip: 1.2 GB of 3.5 GB, 11 MB a second, 3:30 left",
        "prepare: 1 of 1 parts, 0.5 a second, 0:00 left",
    ]
