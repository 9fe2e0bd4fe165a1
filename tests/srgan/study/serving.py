"""The study's server as a process of its own, as an owner starts it."""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

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


class Client:
    """A rater without a browser: sends what the page sends."""

    def __init__(self, link: str) -> None:
        self.root, _, self.token = link.partition("#")
        self.cookie = ""
        self.facts: dict[str, Any] = {}

    def join(self) -> "Client":
        status, headers, body = self.call("api/join", {"token": self.token})
        assert status == 200, body
        self.cookie = headers["Set-Cookie"].partition(";")[0]
        self.facts = json.loads(body)
        return self

    def call(self, path: str, body: Any = None, **headers: str) -> tuple[int, Any, bytes]:
        """Status, headers and body. `body` is sent as JSON, or as it is if it is bytes."""
        sent = {"Cookie": self.cookie} if self.cookie else {}
        if body is not None:
            sent |= {"Content-Type": "application/json", "Origin": self.root.rstrip("/")}
            body = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(self.root + path, body, sent)
        try:
            with urllib.request.urlopen(request) as response:
                return response.status, response.headers, response.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers, error.read()
