"""What training workers take of a cluster."""

import logging
import os
from collections.abc import Sequence
from typing import NamedTuple

import ray

from data_pipeline.platform.errors import UserError
from srgan.config import Config

_log = logging.getLogger(__name__)


class Node(NamedTuple):
    """A node's CPUs and GPUs, free or not."""

    cpus: int
    gpus: int


class Workers(NamedTuple):
    """How many training workers a run wants, and what each of them takes.

    Attributes:
        least: With fewer the run waits.
        most: As many are started as fit, up to this.
        cpus: CPUs of each.
        gpus: GPUs of each.
    """

    least: int
    most: int
    cpus: int
    gpus: int

    def fit(self, nodes: Sequence[Node]) -> bool:
        """Whether the nodes can hold the least of them."""
        return fitting(nodes, cpus=self.cpus, gpus=self.gpus) >= self.least

    def __str__(self) -> str:
        count = f"{self.least}" if self.least == self.most else f"{self.least} to {self.most}"
        return f"{count} worker(s) with {self.cpus} CPU(s) and {self.gpus} GPU(s) each"


def cluster_nodes() -> list[Node]:
    """The nodes of the Ray cluster that are alive."""
    resources = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [Node(int(node.get("CPU", 0)), int(node.get("GPU", 0))) for node in resources]


def describe_nodes(nodes: Sequence[Node]) -> str:
    """`2 node(s) with 4 CPU(s) and 0 GPU(s), ...`, for messages."""
    kinds = {node: nodes.count(node) for node in nodes}
    return ", ".join(
        f"{count} node(s) with {node.cpus} CPU(s) and {node.gpus} GPU(s)"
        for node, count in sorted(kinds.items(), reverse=True)
    )


def plan_now(config: Config, *, workers: tuple[int, int] | None, gpus: int | None) -> Workers:
    """`plan` for the cluster of RAY_ADDRESS, else for this machine, as they are now."""
    may_grow = bool(os.environ.get("RAY_ADDRESS"))
    return plan(cluster_nodes(), config, workers=workers, gpus=gpus, may_grow=may_grow)


def plan(
    nodes: Sequence[Node],
    config: Config,
    *,
    workers: tuple[int, int] | None,
    gpus: int | None,
    may_grow: bool,
) -> Workers:
    """What the workers take of a cluster, or of this machine.

    Args:
        nodes: What there is now.
        config: The experiment.
        workers: The fewest and the most workers. None takes as many as the GPUs hold now, but gives
            every replica an example of the global batch; one worker without GPUs.
        gpus: GPUs of each worker, 0 for the CPU. None takes one where there are GPUs, else 0.
        may_grow: Whether it is a cluster, which may get more nodes. One CPU of each of its nodes
            stays free for the driver and other jobs.

    Raises:
        UserError: If workers, GPUs, configuration and machine do not fit together.
    """
    if may_grow:
        nodes = [
            node._replace(cpus=node.cpus - 1) if node.cpus > max(1, node.gpus) else node
            for node in nodes
        ]
    if gpus is None:
        gpus = int(any(node.gpus for node in nodes))
        if not gpus and may_grow:
            raise UserError(
                "--gpus-per-worker: no node of the cluster has a GPU now; pass how many GPUs each "
                "worker waits for, or 0 to train on CPUs"
            )
    global_batch = config.batch.global_batch
    if workers is None:
        room = fitting(nodes, cpus=1, gpus=gpus) if gpus else 1
        count = max(1, min(room, global_batch // max(1, gpus)))
        if count < room:
            _log.warning(
                "batch.global_batch %d: has an example for %d of the %d GPUs that there are; "
                "the others stay idle; docs/train.md says how to raise it",
                global_batch,
                count * gpus,
                room * gpus,
            )
        workers = (count, count)
    elif 0 < workers[1] * gpus < (there := sum(node.gpus for node in nodes)):
        _log.warning(
            "--num-workers, --gpus-per-worker: %d of the %d GPUs that there are stay idle",
            there - workers[1] * gpus,
            there,
        )
    planned = plan_workers(nodes, least=workers[0], most=workers[1], gpus=gpus)
    replicas = planned.most * max(1, planned.gpus)
    if replicas > global_batch:
        raise UserError(
            f"batch.global_batch {global_batch}: leaves nothing for some of {replicas} replicas; "
            "raise it, or lower --num-workers or --gpus-per-worker"
        )
    if config.xla and config.xla != "auto" and replicas > 1 and config.has_batch_norm:
        raise UserError(
            f"xla: cannot compile batch normalisation over {replicas} replicas; set xla to false, "
            "or generator.batch_norm and discriminator.batch_norm"
        )
    if not may_grow and not planned.fit(nodes):
        raise UserError(
            f"--num-workers, --gpus-per-worker: {planned} are asked for, this machine is "
            f"{describe_nodes(nodes)}; ask for less, or name a cluster in RAY_ADDRESS"
        )
    return planned


def plan_workers(nodes: Sequence[Node], *, least: int, most: int, gpus: int) -> Workers:
    """Workers that share the CPUs of the nodes: as many workers as fit, then as many CPUs each.

    Args:
        nodes: The cluster.
        least: The fewest workers that will do.
        most: The most.
        gpus: GPUs of each.

    Returns:
        The workers, with one CPU each where not even `least` fit.
    """
    largest = max((node.cpus for node in nodes), default=1)
    for count in range(most, least - 1, -1):
        for cpus in range(largest, 0, -1):
            if fitting(nodes, cpus=cpus, gpus=gpus) >= count:
                return Workers(least, most, cpus, gpus)
    return Workers(least, most, 1, gpus)


def fitting(nodes: Sequence[Node], *, cpus: int, gpus: int) -> int:
    """How many workers of this size the nodes can hold."""
    return sum(min(node.cpus // cpus, node.gpus // gpus if gpus else node.cpus) for node in nodes)
