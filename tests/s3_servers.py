"""S3 servers for tests, on loopback: a whole one, and a proxy that spoils some of its answers."""

import fcntl
import http.client
import itertools
import os
import socket
import ssl
import struct
import subprocess
import sys
import termios
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from email.message import Message
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import urlsplit

HOST = "127.0.0.1"
BLOCK = 1 << 18
NOWHERE = "/nonexistent/aws"


class S3Server(NamedTuple):
    """Where a server is, and keys that it accepts."""

    endpoint: str
    access_key: str
    secret_key: str

    def environment(self) -> dict[str, str]:
        """Variables that lead boto3 here, past the developer's own settings."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": NOWHERE,
            "AWS_SHARED_CREDENTIALS_FILE": NOWHERE,
        }


@contextmanager
def moto_server() -> Iterator[S3Server]:
    """Moto's S3, empty at first. A process of its own, which ends with this one in any case."""
    with subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            port = process.stdout.readline().strip()
            if not port:
                raise RuntimeError("moto's server did not start")
            yield S3Server(f"http://{HOST}:{port}", "test-access-key", "test-secret-key")
        finally:
            process.kill()


def _serve_moto() -> None:
    import logging

    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(HOST, port=0, verbose=False)
    server.start()
    print(server.get_host_and_port()[1], flush=True)
    sys.stdin.read()  # until the other end of the pipe is gone


class Fault(Enum):
    """How a request is spoiled."""

    INTERNAL_ERROR = "500 InternalError instead of the answer; the server knows nothing of it"
    SLOW_DOWN = "503 SlowDown instead of the answer; the server knows nothing of it"
    RESET = "the connection is reset after the headers; the server knows nothing of it"
    CUT = "half the body of a GET, then a reset"
    LOST = "the server does what was asked, then the connection is reset instead of an answer"


USUAL_FAULTS = (Fault.INTERNAL_ERROR, Fault.SLOW_DOWN, Fault.RESET, Fault.CUT)


class FaultyServer:
    """What `faulty` yields: the server to talk to, and what has happened so far.

    Attributes:
        denies: Tells of a request's method and path whether it is answered 403 AccessDenied.
        refuses: The status and code of the refusal of a request, by its method and its headers,
            which it may change; a code "" gives a proxy's page, None the answer.
        headers: Of all requests, as they came.
    """

    def __init__(self, server: S3Server, every: int, sequence: Sequence[Fault]):
        self.server = server
        self.requests = 0
        self.faults: Counter[Fault] = Counter()
        self.denies: Callable[[str, str], bool] = lambda method, path: False
        self.refuses: Callable[[str, Message], tuple[int, str] | None] = lambda *_: None
        self.headers: list[dict[str, str]] = []
        self._every = every
        self._order = itertools.cycle(sequence)
        self._cut_is_due = False
        self._lock = threading.Lock()

    def next_fault(self, method: str) -> Fault | None:
        with self._lock:
            self.requests += 1
            fault = None
            if method == "GET" and self._cut_is_due:
                fault, self._cut_is_due = Fault.CUT, False
            elif self.requests % self._every == 0:
                fault = next(self._order)
                if fault == Fault.CUT and method != "GET":
                    fault, self._cut_is_due = None, True
            if fault:
                self.faults[fault] += 1
            return fault


@contextmanager
def faulty(
    server: S3Server,
    every: int = 3,
    sequence: Sequence[Fault] = USUAL_FAULTS,
    tls: ssl.SSLContext | None = None,
) -> Iterator[FaultyServer]:
    """A proxy of `server` that spoils each `every`-th request, in the order of `sequence`.

    The sequence starts again at its end. A CUT that meets another request than a GET leaves it
    alone and is kept for the next GET. With `tls` the proxy is spoken to by https.
    """
    with _Proxy((HOST, 0), _ProxyHandler) as proxy:
        if tls:
            proxy.socket = tls.wrap_socket(proxy.socket, server_side=True)
        proxy.upstream = urlsplit(server.endpoint).netloc
        scheme = "https" if tls else "http"
        front = server._replace(endpoint=f"{scheme}://{HOST}:{proxy.server_port}")
        proxy.state = FaultyServer(front, every, sequence)
        threading.Thread(target=proxy.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield proxy.state
        finally:
            proxy.shutdown()
            proxy.hang_up()


@contextmanager
def answering(status: int, body: bytes, **headers: str) -> Iterator[str]:
    """A server that gives the same answer to everything; yields its URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args):
            pass

        def answer(self):
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            for name, value in (headers | {"Content-Length": str(len(body))}).items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer  # noqa: N815

    with ThreadingHTTPServer((HOST, 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield f"http://{HOST}:{server.server_port}"
        finally:
            server.shutdown()


class _Proxy(ThreadingHTTPServer):
    upstream: str
    state: FaultyServer
    request_queue_size = 128

    def __init__(self, *args):
        super().__init__(*args)
        self.connections: set[socket.socket] = set()

    def process_request(self, request, client_address):
        self.connections.add(request)
        super().process_request(request, client_address)

    def close_request(self, request):
        self.connections.discard(request)
        super().close_request(request)

    def hang_up(self):
        """Ends the connections that clients still hold open, and with them their threads."""
        for connection in list(self.connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], ConnectionError):  # clients may hang up
            super().handle_error(request, client_address)


class _ProxyHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # connections are kept, and 100-continue is answered
    disable_nagle_algorithm = True
    server: _Proxy

    def log_message(self, *args):
        pass

    def _handle(self):
        if self.server.state.denies(self.command, self.path):
            self._refuse(403, "AccessDenied")
            return
        self.server.state.headers.append({k.lower(): v for k, v in self.headers.items()})
        if refusal := self.server.state.refuses(self.command, self.headers):
            self._refuse(*refusal)
            return
        fault = self.server.state.next_fault(self.command)
        if fault == Fault.RESET:
            self._reset()
        elif fault == Fault.INTERNAL_ERROR:
            self._refuse(500, "InternalError")
        elif fault == Fault.SLOW_DOWN:
            self._refuse(503, "SlowDown")
        else:
            self._forward(fault)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _handle  # noqa: N815

    def _request_body(self) -> Iterator[bytes]:
        """The body as it is on the wire: with the framing of its chunks, if it has any."""
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            while True:
                line = self.rfile.readline()
                yield line
                size = int(line.split(b";")[0], 16)
                if not size:
                    break
                yield from self._read(size + len(b"\r\n"))
            while line not in (b"\r\n", b""):  # trailers, up to an empty line
                line = self.rfile.readline()
                yield line
        else:
            yield from self._read(int(self.headers.get("Content-Length", 0)))

    def _read(self, size: int) -> Iterator[bytes]:
        while size:
            block = self.rfile.read1(min(size, BLOCK))
            if not block:
                raise ConnectionAbortedError("the client left in mid-body")
            size -= len(block)
            yield block

    def _refuse(self, status: int, code: str):
        for _ in self._request_body():
            pass
        text = f"<Error><Code>{code}</Code><Message>Spoiled on purpose.</Message></Error>"
        body = (text if code else "<html><br>Blocked</html>").encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _forward(self, fault: Fault | None):
        upstream = http.client.HTTPConnection(self.server.upstream, timeout=600)
        try:
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in ("connection", "expect"):
                    upstream.putheader(name, value)
            upstream.endheaders()
            for block in self._request_body():
                upstream.send(block)
            response = upstream.getresponse()
            if fault == Fault.LOST:
                response.read()
                self._reset()
            else:
                self._answer(response, cut=fault == Fault.CUT)
        finally:
            upstream.close()

    def _answer(self, response: http.client.HTTPResponse, *, cut: bool):
        headers = [
            (name, value)
            for name, value in response.getheaders()
            if name.lower() not in ("connection", "keep-alive", "transfer-encoding")
        ]
        whole = None
        if response.length is None:  # its end is the connection's end, or chunks
            whole = response.read()
            headers.append(("Content-Length", str(len(whole))))
        left = response.length if whole is None else len(whole)
        if cut:
            left //= 2
            if not left:
                self._reset()
                return
        self.send_response_only(response.status, response.reason)
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        if whole is not None:
            self.wfile.write(whole[:left])
        else:
            while left:
                block = response.read(min(left, BLOCK))
                if not block:
                    raise RuntimeError(f"the server cut {self.path} itself")
                self.wfile.write(block)
                left -= len(block)
        if cut:
            self._reset()

    def _reset(self):
        """Ends the connection by RST, once the client's kernel has what was sent."""
        give_up = time.monotonic() + 5
        while time.monotonic() < give_up and self._unsent():
            time.sleep(0.001)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.connection.detach())
        self.close_connection = True

    def _unsent(self) -> int:
        answer = fcntl.ioctl(self.connection, termios.TIOCOUTQ, bytes(4))
        return struct.unpack("i", answer)[0]


if __name__ == "__main__":
    _serve_moto()
