"""A local imitation of EC2's instance metadata service, version 2."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


class MetadataService(ThreadingHTTPServer):
    """Serves `metadata` by path to those that bring a token, or fails if it is broken."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.metadata: dict[str, str] = {}
        self.tokens: set[str] = set()
        self.is_broken = False
        self.requests = 0

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: MetadataService

    def do_PUT(self) -> None:
        lifetime = int(self.headers.get("X-aws-ec2-metadata-token-ttl-seconds", "0"))
        if self.path != "/latest/api/token" or not 1 <= lifetime <= 21600:
            self._answer(400)
            return
        token = secrets.token_hex(8)
        self.server.tokens.add(token)
        self._answer(200, token)

    def do_GET(self) -> None:
        self.server.requests += 1
        if self.server.is_broken:
            self._answer(500)
        elif self.headers.get("X-aws-ec2-metadata-token") not in self.server.tokens:
            self._answer(401)
        elif body := self.server.metadata.get(self.path.removeprefix("/latest/meta-data/")):
            self._answer(200, body)
        else:
            self._answer(404)

    def _answer(self, code: int, body: str = "") -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_) -> None:
        """Nothing: its requests are no news."""


@contextmanager
def metadata_service() -> Iterator[MetadataService]:
    server = MetadataService()
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
