"""The Ray cluster that a job runs on."""

import json
import logging
import os
import random
import secrets
import shlex
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import ray
from ray.util import get_node_ip_address

from data_pipeline.platform.errors import JobFailedError, UserError
from data_pipeline.platform.limits import (
    check_limits,
    object_store_bytes,
    temporary_folder,
    told_limits,
)

_SECONDS_TO_ANSWER = 10

_SUBMITTED_VARIABLE = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # of `ray job submit`

_SERVER_PORTS = (20_000, 32_000)  # below those of outgoing connections


# A cluster's node may have other values, and every process of a job needs the driver's.
_SHARED_VARIABLES = (
    "KERAS_BACKEND",
    "KERAS_HOME",
    "RAY_TRAIN_V2_ENABLED",
    "TF_USE_LEGACY_KERAS",
)

_log = logging.getLogger(__name__)

_PACKAGES = ("data_pipeline", "srgan", "jobs")


@contextmanager
def ray_session() -> Iterator[None]:
    """Connects to the cluster of RAY_ADDRESS, else starts a local one for the block.

    A Ray that is already initialised in this process is used and left running.

    Raises:
        UserError: If no cluster answers at RAY_ADDRESS, or one of another version, or this machine
            or shell has no room for a local Ray.
        JobFailedError: If Ray cannot connect or start for another reason.
    """
    if ray.is_initialized():
        yield
        return
    import colorama  # Ray's own copy, which nobody finds before `import ray`

    colorama.init()  # strips Ray's colours where there is no terminal
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
    check_limits()
    # It sends no statistics, and needs no warning about Ray's access token. Ray would keep the
    # token in the home folder.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)
    try:
        try:
            _init()
        except Exception as error:  # Ray's own are plain ones
            if "timed out" not in str(error):
                raise
            _log.warning("a local Ray did not start within Ray's 30 s: tries once more")
            ray.shutdown()
            _init()
    except Exception as error:
        ray.shutdown()
        folder = temporary_folder()
        if "AF_UNIX" in str(error):
            raise UserError(
                f"{folder}: this path is too long for Ray's sockets; set RAY_TMPDIR to a short "
                "one, as in RAY_TMPDIR=/tmp"
            ) from error
        reason = " ".join(str(error).split())[:300].rstrip(".")
        raise JobFailedError(
            f"a local Ray does not start: {reason}; the usual reasons are too little memory and a "
            f"low limit of the shell ({told_limits() or 'it has none'}); Ray's logs are in "
            f"{folder}/ray/session_latest/logs"
        ) from error


def _init() -> None:
    port = str(free_port())
    inherited = {"RAY_GCS_SERVER_PORT": port, "RAY_ADDRESS": f"{get_node_ip_address()}:{port}"}
    os.environ |= inherited
    try:
        ray.init(
            address="local",
            include_dashboard=False,
            logging_level=logging.WARNING,
            object_store_memory=object_store_bytes(),
            runtime_env=_local_environment(sys.executable),
        )
    finally:
        for name in inherited:
            del os.environ[name]


def _local_environment(python: str) -> dict[str, str] | None:
    """Ray starts processes that have an environment of their own by a shell: quotes a space."""
    quoted = shlex.quote(python)
    return None if quoted == python else {"py_executable": quoted}


def free_port() -> int:
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
        ray.init(logging_level=logging.WARNING, runtime_env=_job_environment(address))
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


def _job_environment(address: str) -> dict[str, Any]:
    """What the cluster's processes need of this one: variables, and the source.

    A submitted job has its source with it already.
    """
    shared = {name: os.environ[name] for name in _SHARED_VARIABLES if name in os.environ}
    # Ray Train's processes look for a Ray on their node, and may take another one that is there.
    host, _, port = address.rpartition(":")
    if port.isdecimal() and "//" not in host:
        is_here = host in ("127.0.0.1", "localhost")
        shared["RAY_ADDRESS"] = f"{get_node_ip_address() if is_here else host}:{port}"
    if _SUBMITTED_VARIABLE in os.environ:
        submitted = json.loads(os.environ[_SUBMITTED_VARIABLE]).get("runtime_env", {})
        given = submitted.get("env_vars", {})  # Ray refuses a variable that is given twice
        return {"env_vars": {name: shared[name] for name in shared.keys() - given.keys()}}
    root = Path(__file__).parents[2]
    modules = [str(root / name) for name in _PACKAGES if (root / name).is_dir()]
    return {"env_vars": shared, "py_modules": modules, "excludes": ["**/__pycache__"]}
