"""The Ray cluster that a job runs on."""

import logging
import os
import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import ray
from ray.util import get_node_ip_address

from data_pipeline.platform.errors import JobFailedError, UserError

_SECONDS_TO_ANSWER = 10

_SERVER_PORTS = (20_000, 32_000)  # below those of outgoing connections

_log = logging.getLogger(__name__)


@contextmanager
def ray_session() -> Iterator[None]:
    """Connects to the cluster of RAY_ADDRESS, else starts a local one for the block.

    A Ray that is already initialised in this process is used and left running.

    Raises:
        UserError: If no cluster answers at RAY_ADDRESS, or one of another version, or the
            temporary folder's path is too long for Ray.
        JobFailedError: If Ray cannot connect for another reason.
    """
    if ray.is_initialized():
        yield
        return
    if address := os.environ.get("RAY_ADDRESS"):
        _connect(address)
    else:
        _start()
    try:
        yield
    finally:
        ray.shutdown()


def _start() -> None:
    """Starts a local Ray. Its processes inherit its address: another Ray may be on this machine."""
    # It sends no statistics, and needs no warning about Ray's access token.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)
    try:
        _init()
    except OSError as error:
        if "AF_UNIX" not in str(error):
            raise
        folder = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR")
        raise UserError(
            f"{folder}: this path is too long for Ray's sockets; set RAY_TMPDIR to a short one, as "
            "in RAY_TMPDIR=/tmp"
        ) from error
    except Exception as error:  # Ray raises no other type here
        if "timed out" not in str(error):
            raise
        _log.warning("a local Ray did not start within Ray's 30 s: tries once more")
        ray.shutdown()
        _init()


def _init() -> None:
    port = str(_free_port())
    inherited = {"RAY_GCS_SERVER_PORT": port, "RAY_ADDRESS": f"{get_node_ip_address()}:{port}"}
    os.environ |= inherited
    try:
        ray.init(address="local", include_dashboard=False, logging_level=logging.WARNING)
    finally:
        for name in inherited:
            del os.environ[name]


def _free_port() -> int:
    """A port that no server listens on, and that no outgoing connection is given meanwhile."""
    while True:
        port = random.SystemRandom().randrange(*_SERVER_PORTS)
        with socket.socket() as server, suppress(OSError):
            server.bind(("", port))
            return port


def _connect(address: str) -> None:
    host, _, port = address.rpartition(":")
    try:
        if host and "//" not in address and port.isdecimal():
            # Ray itself would try for minutes.
            socket.create_connection((host.strip("[]"), int(port)), _SECONDS_TO_ANSWER).close()
        ray.init(logging_level=logging.WARNING)
    except (OSError, ValueError, RuntimeError) as error:
        where = f"RAY_ADDRESS {address}: cannot use this cluster"
        reason = " ".join(str(error).split())[:400]
        if isinstance(error, OSError | ValueError):
            fix = "start it, or unset RAY_ADDRESS for a local Ray"
        elif "Version mismatch" in reason:
            fix = "install the cluster's own versions of Ray and Python"
        else:
            raise JobFailedError(f"{where}: {reason}") from error
        raise UserError(f"{where}: {reason}; {fix}") from error
