"""The Ray cluster that a job runs on."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import ray


@contextmanager
def ray_session() -> Iterator[None]:
    """Connects to the cluster of RAY_ADDRESS, else starts a local one for the block.

    A Ray that is already initialised in this process is used and left running.
    """
    if ray.is_initialized():
        yield
        return
    if os.environ.get("RAY_ADDRESS"):
        ray.init(logging_level=logging.WARNING)
    else:
        # A local session phones nobody, and that Ray protects it with a token needs no warning.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)
        ray.init(address="local", include_dashboard=False, logging_level=logging.WARNING)
    try:
        yield
    finally:
        ray.shutdown()
