"""The Ray cluster that a job runs on."""

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from data_pipeline.platform.errors import JobFailedError, UserError

_SECONDS_TO_ANSWER = 10


@contextmanager
def ray_session() -> Iterator[None]:
    """Connects to the cluster of RAY_ADDRESS, else starts a local one for the block.

    A Ray that is already initialised in this process is used and left running.

    Raises:
        UserError: If no cluster answers at RAY_ADDRESS, or one of another version.
        JobFailedError: If Ray cannot connect for another reason.
    """
    if ray.is_initialized():
        yield
        return
    if address := os.environ.get("RAY_ADDRESS"):
        _connect(address)
    else:
        # A local session sends no statistics, and needs no warning about Ray's access token.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)
        ray.init(address="local", include_dashboard=False, logging_level=logging.WARNING)
    try:
        yield
    finally:
        ray.shutdown()


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
