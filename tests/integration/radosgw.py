"""A Ceph S3 server (radosgw) for tests: one monitor, one storage daemon in memory, one gateway."""

import http.client
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from tests.s3_servers import HOST, S3Server

PROGRAMS = ["ceph-mon", "ceph-osd", "radosgw", "ceph", "radosgw-admin", "monmaptool", "setpriv"]
SECONDS_TO_START = 600
SECONDS_TO_STOP = 10

# Admin sockets are off: the path of one has at most 107 characters. So are the gateway's chores,
# which slow its stop. With no authentication there is no secret to encrypt by, hence `crc`. The
# monitor decides on the gateway's pools one after another, by default one a second.
CONFIGURATION = """
[global]
fsid = {fsid}
mon host = v2:{host}:{monitor_port}
public addr = {host}
cluster addr = {host}
auth cluster required = none
auth service required = none
auth client required = none
ms mon client mode = crc

mon data = {folder}/mon
osd data = {folder}/osd
crash dir = {folder}/crash
mon cluster log file = {folder}/cluster.log
log file =
debug rocksdb = 0
admin socket =

paxos propose interval = 0.05
mon data avail crit = 1
osd objectstore = memstore
memstore device bytes = 8589934592
osd pool default size = 1
osd pool default pg num = 1

rgw frontends = beast endpoint={host}:{gateway_port} tcp_nodelay=1
rgw enable lc threads = false
rgw enable gc threads = false
"""


def missing_programs() -> list[str]:
    """The programs that a server needs and that are not on PATH."""
    return [program for program in PROGRAMS if shutil.which(program) is None]


@contextmanager
def radosgw(folder: Path) -> Iterator[S3Server]:
    """Runs a server with one user. All that it writes lies in a new folder below `folder`.

    Its processes end with the block, and with the calling thread even when that is killed.
    """
    with ExitStack() as stack:
        yield _start(Path(tempfile.mkdtemp(prefix="ceph-", dir=folder.resolve())), stack)


def other_user(folder: Path, server: S3Server) -> S3Server:
    """A new user of the server that runs below `folder`: the same endpoint, other keys."""
    (configuration,) = folder.resolve().glob("ceph-*/ceph.conf")
    other = server._replace(access_key=secrets.token_hex(10), secret_key=secrets.token_hex(20))
    command = ["radosgw-admin", f"--conf={configuration}", "user", "create", "--uid=other"]
    keys = [f"--access-key={other.access_key}", f"--secret-key={other.secret_key}"]
    subprocess.run([*command, "--display-name=other", *keys], check=True, capture_output=True)
    return other


def _start(folder: Path, stack: ExitStack) -> S3Server:
    fsid = str(uuid.uuid4())
    monitor_port, gateway_port = _free_ports(2)
    server = S3Server(f"http://{HOST}:{gateway_port}", secrets.token_hex(10), secrets.token_hex(20))
    (folder / "osd").mkdir()
    (folder / "ceph.conf").write_text(
        CONFIGURATION.format(
            folder=folder,
            fsid=fsid,
            host=HOST,
            monitor_port=monitor_port,
            gateway_port=gateway_port,
        )
    )

    cluster = _Cluster(folder, stack)
    address, monitors = f"[v2:{HOST}:{monitor_port}/0]", f"{folder}/monmap"
    cluster.run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", address, monitors)
    cluster.run("ceph-mon", "--id=a", "--mkfs", f"--monmap={monitors}")
    cluster.daemon("ceph-mon", "--id=a")
    cluster.run("ceph", "osd", "new", fsid)  # any UUID will do
    cluster.run("ceph-osd", "--id=0", "--mkfs", f"--osd-uuid={fsid}")
    cluster.daemon("ceph-osd", "--id=0")
    cluster.daemon("radosgw", "--name=client.rgw.a")
    cluster.wait("radosgw", lambda: _answers(gateway_port))
    keys = [f"--access-key={server.access_key}", f"--secret-key={server.secret_key}"]
    cluster.run("radosgw-admin", "user", "create", "--uid=tests", "--display-name=tests", *keys)
    return server


class _Cluster:
    """The processes of one cluster; the exit stack stops them."""

    def __init__(self, folder: Path, stack: ExitStack):
        self.folder = folder
        self.stack = stack
        self.daemons: dict[str, subprocess.Popen] = {}
        self.deadline = time.monotonic() + SECONDS_TO_START

    def daemon(self, program: str, *arguments: str) -> None:
        """Starts a program that runs until it is stopped: -d keeps it in the foreground."""
        self.daemons[program] = self._popen(program, "-d", *arguments)

    def run(self, program: str, *arguments: str) -> None:
        """Runs a program to its end."""
        process = self._popen(program, *arguments)
        self.wait(program, lambda: process.poll() is not None)
        if process.returncode:
            raise self._failure(f"{program} ended with {process.returncode}", program)

    def wait(self, program: str, condition: Callable[[], bool]) -> None:
        """Waits for what the program does, as long as every daemon lives."""
        while not condition():
            for name, daemon in self.daemons.items():
                if daemon.poll() is not None:
                    raise self._failure(f"{name} ended with {daemon.returncode}", name)
            if time.monotonic() > self.deadline:
                raise self._failure(f"{program} takes too long", program, *self.daemons)
            time.sleep(0.05)

    def _popen(self, program: str, *arguments: str) -> subprocess.Popen:
        command = ["setpriv", "--pdeathsig=KILL", program, f"--conf={self.folder}/ceph.conf"]
        with (self.folder / f"{program}.log").open("ab") as log:
            process = subprocess.Popen(
                [*command, *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self.stack.callback(_stop, process)
        return process

    def _failure(self, reason: str, *programs: str) -> RuntimeError:
        message = f"the S3 server did not start: {reason}"
        for program in dict.fromkeys(programs):
            log = (self.folder / f"{program}.log").read_text(errors="replace")
            last_lines = [line for line in log.splitlines() if line][-20:]
            message = "\n".join([message, f"--- {program}", *last_lines])
        return RuntimeError(message)


def _stop(process: subprocess.Popen) -> None:
    process.terminate()
    try:
        process.wait(SECONDS_TO_STOP)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server((HOST, 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]


def _answers(port: int) -> bool:
    with closing(http.client.HTTPConnection(HOST, port, timeout=5)) as connection:
        try:
            connection.request("GET", "/")
            return connection.getresponse().status == http.client.OK
        except OSError:
            return False
