"""How training workers find each other: Ray Train's part for TensorFlow, without TensorFlow.

Ray's own part does the same, but it imports TensorFlow wherever it is imported: into the driver,
which needs seconds and half a gigabyte for it.
"""

import json
import os
from typing import Any

import ray
from ray.train.backend import Backend, BackendConfig
from ray.util import get_node_ip_address

from data_pipeline.platform.cluster import free_port


class Addresses(BackendConfig):
    """Every worker gets TF_CONFIG, from which `MultiWorkerMirroredStrategy` reads all addresses."""

    @property
    def backend_cls(self) -> type[Backend]:
        """What Ray Train calls when the workers' processes are there."""
        return _Backend


class _Backend(Backend):
    def on_start(self, worker_group: Any, backend_config: BackendConfig) -> None:
        addresses = worker_group.execute(_address)
        ray.get(
            [
                worker_group.execute_single_async(rank, _tell, addresses, rank)
                for rank in range(len(addresses))
            ]
        )


def _address() -> str:
    host = get_node_ip_address()
    return f"{f'[{host}]' if ':' in host else host}:{free_port()}"


def _tell(addresses: list[str], rank: int) -> None:
    task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": rank}}
    os.environ["TF_CONFIG"] = json.dumps(task)
