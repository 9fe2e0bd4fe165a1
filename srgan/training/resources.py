"""What training workers take of a cluster. Pure, but for `cluster_nodes`."""

from collections.abc import Sequence
from typing import NamedTuple

import ray


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
