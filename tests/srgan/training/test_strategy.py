"""What the devices decide: XLA, steps a call, how workers sum up."""

import json
import os
import socket
import subprocess
import sys
import time

import pytest
import tensorflow as tf

from srgan.training.strategy import communication_options, steps_per_call, uses_xla
from tests.conftest import ROOT
from tests.srgan.session import config


@pytest.mark.parametrize(
    ("setting", "batch_norm", "gpus", "replicas", "expected"),
    [
        ("auto", "true", 1, 1, True),
        ("auto", "true", 0, 1, False),  # oneDNN is faster on the CPU
        ("auto", "true", 1, 8, False),  # sums inside batch normalisation
        ("auto", "false", 1, 8, True),
        ("auto", "false", 0, 2, False),
        ("true", "true", 0, 1, True),
        ("false", "true", 1, 1, False),
    ],
)
def test_xla_is_on_where_it_helps(setting, batch_norm, gpus, replicas, expected):
    settings = config("float32", batch_norm, more=f"xla: {setting}")
    assert uses_xla(settings, gpus=gpus, replicas=replicas) is expected


def test_a_call_on_a_gpu_has_more_steps():
    default = config("float32", "true")
    assert steps_per_call(default, gpus=1) == 50
    assert steps_per_call(default, gpus=0) == 10
    chosen = config("float32", "true", more="steps_per_call: 7")
    assert steps_per_call(chosen, gpus=1) == steps_per_call(chosen, gpus=0) == 7


SUM_OF_A_WORKER = """
import json, sys
import tensorflow as tf
from srgan.training.strategy import communication_options
options = communication_options(gpus=int(sys.argv[1]))
strategy = tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)

@tf.function
def total():
    def step():
        return tf.distribute.get_replica_context().all_reduce("SUM", tf.ones(3))
    return strategy.run(step)

graph = total.get_concrete_function().graph.as_graph_def()
nodes = [node for body in [graph.node, *(one.node_def for one in graph.library.function)]
         for node in body if node.op == "CollectiveReduceV2"]
print(json.dumps([[node.attr["communication_hint"].s.decode(), node.attr["timeout_seconds"].f]
                  for node in nodes]))
"""


def sums_of_two_workers(gpus: int) -> list[str] | None:
    """The last line that each of two workers prints; None if another process took a port."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    cluster = {"worker": [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]}
    for one in sockets:
        one.close()
    workers = []
    for index in range(2):
        task = {"cluster": cluster, "task": {"type": "worker", "index": index}}
        workers.append(
            subprocess.Popen(
                [sys.executable, "-c", SUM_OF_A_WORKER, str(gpus)],
                cwd=ROOT,
                env=os.environ | {"TF_CONFIG": json.dumps(task)},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    try:
        while None in (codes := [worker.poll() for worker in workers]):
            if any(codes):
                break  # the other one waits for it
            time.sleep(0.1)
        failed = [worker for worker, code in zip(workers, codes, strict=True) if code]
        if not failed:
            return [worker.communicate()[0].splitlines()[-1] for worker in workers]
        problem = failed[0].communicate()[1]
        assert "Could not start gRPC server" in problem, problem
        return None
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()


@pytest.mark.parametrize(("gpus", "hint"), [(1, "nccl"), (0, "ring")])
def test_workers_with_gpus_sum_up_by_nccl_and_not_for_ever(gpus, hint):
    """It stands in the graph that two workers build; `auto` would be gRPC even on GPUs."""
    found = None
    while found is None:
        found = sums_of_two_workers(gpus)
    assert [json.loads(line) for line in found] == [[[hint, 7200.0]]] * 2


def test_no_gpu_no_nccl():
    kinds = tf.distribute.experimental.CommunicationImplementation
    assert communication_options(gpus=8).implementation == kinds.NCCL
    assert communication_options(gpus=0).implementation == kinds.RING
