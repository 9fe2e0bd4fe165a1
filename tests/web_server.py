"""A web server of one file, which takes posts, for tests on loopback. It can misbehave."""

import datetime
import ipaddress
import re
import socket
import ssl
import struct
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal, NamedTuple

import pytest


class Fault(NamedTuple):
    """What goes wrong with one request: `after` so many bytes, or an answer of that status."""

    kind: Literal["cut", "reset", "stall", "pause", "status"]
    after: int = 0
    status: int = 0
    headers: tuple[tuple[str, str], ...] = ()


class WebServer:
    """A file and how it is served; `faults` are used up, one a request, then `fault` rules."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.knows_ranges = self.tells_size = True
        self.faults: deque[Fault] = deque()
        self.fault: Fault | None = None
        self.paths: list[str] = []
        self.posts: list[tuple[dict[str, str], bytes]] = []  # headers and bodies
        self.ranges: list[str | None] = []
        self.started = threading.Event()  # a body that stalls or pauses has sent its bytes
        self.released = threading.Event()  # ends every stall and pause
        self.url = ""


@contextmanager
def serve(content: bytes, certificate: Path | None = None) -> Iterator[WebServer]:
    """A server at `url` for the block's time; of https with a certificate of `self_signed`."""
    script = WebServer(content)

    class Handler(_Handler):
        server_script = script

    with _Server(("127.0.0.1", 0), Handler) as server:
        script.url = f"http://127.0.0.1:{server.server_port}/file.zip"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
            script.url = script.url.replace("http:", "https:")
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield script
        finally:
            script.released.set()
            server.shutdown()
            thread.join()


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_):
        """A client may hang up or be killed."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_script: WebServer

    def do_GET(self):
        script = self.server_script
        wanted = self.headers["Range"]
        script.paths.append(self.path)
        script.ranges.append(wanted)
        self.close_connection = True
        fault = script.faults.popleft() if script.faults else script.fault
        if fault and fault.status:
            self._answer(fault.status, dict(fault.headers), b"sorry")
            return
        start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted else 0
        if not script.knows_ranges or not start:
            size = len(script.content)
            headers = {"Content-Length": str(size)} if script.tells_size else {}
            self._answer(200, headers, script.content, fault)
            return
        body, size = script.content[start:], len(script.content)
        headers = {"Content-Length": str(len(body)), "Content-Range": f"bytes {start}-{size - 1}/*"}
        self._answer(206, headers, body, fault)

    def do_POST(self):
        """A fault of the kind "stall" gives no answer; without a fault the answer is 204."""
        script = self.server_script
        body = self.rfile.read(int(self.headers["Content-Length"]))
        script.paths.append(self.path)
        script.posts.append(({name.lower(): one for name, one in self.headers.items()}, body))
        self.close_connection = True
        fault = script.faults.popleft() if script.faults else script.fault
        if fault and fault.kind == "stall":
            script.released.wait()
        elif fault:
            self._answer(fault.status, dict(fault.headers), b"sorry")
        else:
            self._answer(204, {}, b"")

    def _answer(self, status, headers, body, fault=None):
        script = self.server_script
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()
        first, rest = (body[: fault.after], body[fault.after :]) if fault else (body, b"")
        self.wfile.write(first)
        if fault and fault.kind in ("stall", "pause"):
            script.started.set()
            script.released.wait()
        if not fault or fault.kind == "pause":
            self.wfile.write(rest)
        if fault and fault.kind == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    def log_message(self, *_):
        """Says nothing."""


def self_signed(folder: Path) -> Path:
    """A certificate of 127.0.0.1 and its key, in one file."""
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
    plain = serialization.NoEncryption()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain
    )
    path = folder / "server.pem"
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM) + private)
    return path
