"""A web server of one file for tests, on loopback. It can misbehave as real ones do."""

import re
import socket
import struct
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal, NamedTuple


class Fault(NamedTuple):
    """What goes wrong with one request: `after` so many bytes, or an answer of that status."""

    kind: Literal["cut", "reset", "stall", "pause", "status"]
    after: int = 0
    status: int = 0
    headers: tuple[tuple[str, str], ...] = ()


class Request(NamedTuple):
    """A request as it came."""

    path: str
    range: str | None
    if_range: str | None


class WebServer:
    """A file and how it is served; faults are used up one a request, then `fault` rules."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.etag: str | None = '"first"'
        self.last_modified: str | None = None
        self.knows_ranges = self.knows_if_range = self.tells_size = True
        self.faults: deque[Fault] = deque()
        self.fault: Fault | None = None
        self.requests: list[Request] = []
        self.sent: list[int] = []  # bytes of each body, as far as it was to be sent
        self.started = threading.Event()  # a body that stalls or pauses has sent its bytes
        self.released = threading.Event()  # ends every stall and pause
        self.url = ""


@contextmanager
def serve(content: bytes) -> Iterator[WebServer]:
    """A server at `url` for the block's time."""
    script = WebServer(content)

    class Handler(_Handler):
        server_script = script

    with _Server(("127.0.0.1", 0), Handler) as server:
        script.url = f"http://127.0.0.1:{server.server_port}/file.zip"
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
        """A client that hangs up or is killed is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_script: WebServer

    def do_GET(self):
        script = self.server_script
        wanted, if_range = self.headers["Range"], self.headers["If-Range"]
        script.requests.append(Request(self.path, wanted, if_range))
        self.close_connection = True
        fault = script.faults.popleft() if script.faults else script.fault
        if fault and fault.status:
            self._answer(fault.status, dict(fault.headers), b"sorry")
            return
        content = script.content
        validators = {"ETag": script.etag, "Last-Modified": script.last_modified}
        headers = {name: value for name, value in validators.items() if value}
        if script.tells_size:
            headers["Content-Length"] = str(len(content))
        same = if_range in headers.values() or not script.knows_if_range
        if not wanted or not script.knows_ranges or not same:
            self._answer(200, headers, content, fault)
            return
        start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1])
        if start >= len(content):
            self._answer(416, {"Content-Range": f"bytes */{len(content)}"}, b"")
            return
        headers["Content-Length"] = str(len(content) - start)
        headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self._answer(206, headers, content[start:], fault)

    def _answer(self, status, headers, body, fault=None):
        script = self.server_script
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()
        whole = not fault or fault.kind == "pause"
        first, rest = (body[: fault.after], body[fault.after :]) if fault else (body, b"")
        if status in (200, 206):
            script.sent.append(len(body) if whole else len(first))
        self.wfile.write(first)
        if fault and fault.kind in ("stall", "pause"):
            script.started.set()
            script.released.wait(20)
        if whole:
            self.wfile.write(rest)
        if fault and fault.kind == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    def log_message(self, *_):
        """Says nothing."""
