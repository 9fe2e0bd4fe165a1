"""Two nodes of a real Ray, two workers in the gan phase, one of which is killed."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ray.cluster_utils import Cluster

from tests.integration.jobs import (
    assert_goodput,
    assert_same_end,
    finish,
    interrupt,
    last_step,
    output_of,
    start,
    starts,
    wait_until,
)

pytestmark = pytest.mark.slow

DISTURBED_AT = 50
STORE = 100 << 20


class TwoNodes:
    """A head without CPUs, and two nodes with room for a worker each."""

    def __init__(self) -> None:
        head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": STORE}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        self.nodes = [self.add(), self.add()]
        self.cluster.wait_for_nodes()

    def add(self) -> Any:
        return self.cluster.add_node(num_cpus=1, object_store_memory=STORE)

    def training_workers(self) -> list[int]:
        """Their process ids, the youngest last."""
        raylets = [node.all_processes["raylet"][0].process.pid for node in self.nodes]
        parents = ",".join(map(str, raylets))
        found = subprocess.run(
            ["pgrep", "-P", parents, "-f", "ray::RayTrainWorker"],
            check=True,
            capture_output=True,
            text=True,
        )
        return [int(pid) for pid in found.stdout.split()]

    def lose(self, node: Any) -> None:
        """SIGKILL of all its processes; another node comes, as an autoscaler would bring it."""
        self.cluster.remove_node(node, allow_graceful=False)
        self.nodes = [other for other in self.nodes if other is not node]
        self.nodes.append(self.add())


@pytest.fixture(scope="module")
def cluster(node_cache) -> Iterator[TwoNodes]:
    """Beside the session's own Ray, whose driver is this process."""
    nodes = TwoNodes()
    yield nodes
    nodes.cluster.shutdown()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, cluster, small_data, config) -> Path:
    run = tmp_path_factory.mktemp("runs") / "undisturbed"
    finish("train", *arguments(config, small_data, run), address=cluster.cluster.address)
    return run


def arguments(config: Path, data: Path, run: Path) -> list:
    given = ["--config", config, "--data", data, "--run", run, "--gpus-per-worker", 0]
    return [*given, "--num-workers", 2]


def disturb(process: subprocess.Popen, run: Path, how: Callable[[], None]) -> str:
    """Does something to a run in its gan phase; waits for its end, which has to be a good one."""
    wait_until(process, lambda: last_step(run) >= DISTURBED_AT)
    how()
    return output_of(process, code=0)


def test_a_worker_is_killed(cluster, undisturbed, small_data, config, tmp_path):
    run = tmp_path / "run"
    process = start("train", *arguments(config, small_data, run), address=cluster.cluster.address)
    output = disturb(process, run, lambda: os.kill(cluster.training_workers()[-1], signal.SIGKILL))
    first, second = starts(output)
    assert first == 0
    assert second >= DISTURBED_AT
    assert output.count("the workers start again from the last checkpoint: ") == 1
    assert "Traceback" not in output
    assert_same_end(run, undisturbed)
    assert len(assert_goodput(run, output)) == 1


def test_a_node_is_killed(cluster, undisturbed, small_data, config, tmp_path):
    run = tmp_path / "run"
    process = start("train", *arguments(config, small_data, run), address=cluster.cluster.address)
    output = disturb(process, run, lambda: cluster.lose(cluster.nodes[1]))
    assert [step >= DISTURBED_AT for step in starts(output)] == [False, True]
    assert_same_end(run, undisturbed)


def test_the_driver_is_killed(cluster, undisturbed, small_data, config, tmp_path):
    run = tmp_path / "run"
    address = cluster.cluster.address
    process = start("train", *arguments(config, small_data, run), address=address)
    interrupt(process, signal.SIGKILL, lambda: last_step(run) >= DISTURBED_AT)
    output = finish("train", *arguments(config, small_data, run), address=address)
    assert starts(output)[0] >= DISTURBED_AT
    assert_same_end(run, undisturbed)


@pytest.fixture
def own_cluster(node_cache) -> Iterator[TwoNodes]:
    """For a test that leaves fewer nodes."""
    nodes = TwoNodes()
    yield nodes
    nodes.cluster.shutdown()


def test_an_elastic_run_goes_on_with_fewer_workers(
    own_cluster, small_data, config, tmp_path, monkeypatch
):
    # Ray may ask for two workers before it knows that the node is lost; it waits for them so long.
    monkeypatch.setenv("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "30")
    run = tmp_path / "run"
    given = [*arguments(config, small_data, run)[:-1], "1:2"]
    process = start("train", *given, address=own_cluster.cluster.address)
    output = disturb(
        process,
        run,
        lambda: own_cluster.cluster.remove_node(own_cluster.nodes[1], allow_graceful=False),
    )
    assert "MultiWorkerMirroredStrategy, 2 worker(s)" in output
    assert "OneDeviceStrategy, 1 worker(s)" in output
    first, second = starts(output)
    assert first == 0
    assert second >= DISTURBED_AT
