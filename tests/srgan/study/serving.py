"""The study's server as a process of its own, as an owner starts it."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_network
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import uvicorn

from srgan.study.server import StudyServer
from tests.conftest import ROOT


class Served(NamedTuple):
    """A server, the link that it printed, and the port."""

    process: subprocess.Popen
    link: str

    @property
    def port(self) -> int:
        return urlsplit(self.link).port

    def kill(self) -> None:
        """SIGKILL, as by a lack of memory."""
        self.process.kill()
        self.process.wait()


@contextmanager
def serving(study: Path, *options: Any, port: int = 0) -> Iterator[Served]:
    command = [sys.executable, "-m", "jobs.study", "serve", "--study", study, "--port", port]
    process = subprocess.Popen(
        list(map(str, [*command, *options])),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    try:
        line = process.stdout.readline()
        assert line.startswith("raters open "), line
        yield Served(process, line.split()[-1])
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()
        process.stdout.close()


@contextmanager
def in_thread(study: Path, token: str | None = None, *, is_local: bool = True) -> Iterator[int]:
    """The server in this process; its port."""
    server = StudyServer(study, token)
    listening = socket.create_server(("127.0.0.1", 0))
    running = uvicorn.Server(uvicorn.Config(server.app(is_local=is_local), log_level="warning"))
    thread = threading.Thread(target=running.run, args=([listening],))
    thread.start()
    try:
        yield listening.getsockname()[1]
    finally:
        running.should_exit = True
        thread.join()
        listening.close()
        server.close()


class Answer(NamedTuple):
    """What a server answers; names of headers are small."""

    status: int
    headers: dict[str, str]
    content: bytes

    def json(self) -> Any:
        return json.loads(self.content)


class Client:
    """A rater without a browser: sends what the page sends, or what the test wants.

    Each comes from an address of its own, so that none uses up the requests of others.
    """

    _addresses = map(str, ip_network("127.1.0.0/16").hosts())

    def __init__(self, port: int) -> None:
        self.port, self.cookie_name, self.cookie = port, "", ""
        self.address = next(self._addresses)

    def get(self, path: str, **headers: str) -> Answer:
        return self.send("GET", path, None, headers)

    def post(self, path: str, body: Any, **headers: str) -> Answer:
        """`body` is sent as JSON, or as it is if it is bytes or a list of bytes."""
        own = {"origin": f"http://127.0.0.1:{self.port}", "content_type": "application/json"}
        if not isinstance(body, bytes | list):
            body = json.dumps(body).encode()
        return self.send("POST", path, body, own | headers)

    def send(self, method: str, path: str, body: Any, headers: dict[str, str]) -> Answer:
        """An underscore in a header's name is a hyphen; a header that is empty is left out."""
        sent = {"Cookie": f"{self.cookie_name}={self.cookie}"} if self.cookie else {}
        sent |= {name.replace("_", "-"): value for name, value in headers.items() if value}
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.port, source_address=(self.address, 0)
        )
        try:
            connection.request(method, path, body, sent, encode_chunked=isinstance(body, list))
            found = connection.getresponse()
            named = {name.lower(): value for name, value in found.getheaders()}
            named.pop("date", None)
            return Answer(found.status, named, found.read())
        finally:
            connection.close()

    def join(self, token: str = "") -> dict[str, Any]:
        """Becomes a new rater; returns the study's facts."""
        answer = self.post("/api/join", {"token": token})
        assert answer.status == 200, answer
        pair = answer.headers["set-cookie"].partition(";")[0]
        self.cookie_name, _, self.cookie = pair.partition("=")
        return answer.json()
