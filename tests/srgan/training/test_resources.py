import logging

import pytest

from data_pipeline.platform.errors import UserError
from srgan.training.resources import Node, Workers, describe_nodes, fitting, plan, plan_workers
from tests.srgan.session import config

HEAD = Node(8, 0)
GPU_NODE = Node(32, 4)


@pytest.mark.parametrize(
    ("nodes", "least", "most", "gpus", "cpus"),
    [
        ([Node(2, 0)], 1, 1, 0, 2),
        ([Node(2, 0)], 2, 2, 0, 1),
        ([Node(7, 0)], 2, 2, 0, 3),
        ([Node(4, 0), Node(4, 0)], 2, 2, 0, 4),
        ([HEAD, GPU_NODE, GPU_NODE], 2, 2, 4, 32),
        ([HEAD, GPU_NODE, GPU_NODE], 4, 4, 2, 16),
        ([HEAD, GPU_NODE, GPU_NODE], 8, 8, 1, 8),
        ([HEAD, GPU_NODE], 1, 2, 4, 32),  # one now, a second one when there is a node for it
        ([HEAD], 2, 2, 4, 1),  # none fits: the cluster has to grow
        ([Node(0, 0)], 1, 1, 0, 1),
        ([], 1, 1, 0, 1),
    ],
)
def test_workers_share_the_cpus_of_the_nodes(nodes, least, most, gpus, cpus):
    assert plan_workers(nodes, least=least, most=most, gpus=gpus) == Workers(
        least, most, cpus, gpus
    )


def test_whether_workers_fit():
    nodes = [HEAD, GPU_NODE, GPU_NODE]
    assert fitting(nodes, cpus=32, gpus=4) == 2
    assert fitting(nodes, cpus=8, gpus=0) == 9
    assert Workers(2, 9, 32, 4).fit(nodes)
    assert not Workers(3, 9, 32, 4).fit(nodes)


def test_messages():
    assert str(Workers(2, 2, 8, 1)) == "2 worker(s) with 8 CPU(s) and 1 GPU(s) each"
    assert str(Workers(1, 4, 8, 0)) == "1 to 4 worker(s) with 8 CPU(s) and 0 GPU(s) each"
    assert describe_nodes([GPU_NODE, HEAD, GPU_NODE]) == (
        "2 node(s) with 32 CPU(s) and 4 GPU(s), 1 node(s) with 8 CPU(s) and 0 GPU(s)"
    )


@pytest.mark.parametrize(
    ("nodes", "may_grow", "batch", "workers", "gpus", "expected"),
    [
        # Neither number is given: a process for each GPU, one process without any.
        ([Node(2, 0)], False, 16, None, None, Workers(1, 1, 2, 0)),
        ([Node(16, 1)], False, 16, None, None, Workers(1, 1, 16, 1)),
        ([Node(96, 8)], False, 16, None, None, Workers(8, 8, 12, 1)),
        ([HEAD, GPU_NODE, GPU_NODE], True, 16, None, None, Workers(8, 8, 7, 1)),
        ([Node(7, 0), Node(8, 1), Node(32, 4)], True, 16, None, None, Workers(5, 5, 7, 1)),
        ([Node(8, 8)], True, 16, None, None, Workers(8, 8, 1, 1)),  # no CPU is left to spare
        ([Node(4, 8)], False, 16, None, None, Workers(4, 4, 1, 1)),  # nor one for every GPU
        # The global batch has an example for so many replicas.
        ([Node(192, 8)] * 4, True, 16, None, None, Workers(16, 16, 47, 1)),
        ([Node(192, 8)] * 4, True, 30, None, 4, Workers(7, 7, 95, 4)),
        # One number is given.
        ([Node(96, 8)], False, 16, None, 0, Workers(1, 1, 96, 0)),
        ([Node(96, 8)], False, 16, None, 8, Workers(1, 1, 96, 8)),
        ([Node(96, 8)], False, 16, None, 3, Workers(2, 2, 48, 3)),
        ([Node(96, 8)], False, 16, (2, 4), None, Workers(2, 4, 24, 1)),
        ([HEAD], True, 16, None, 2, Workers(1, 1, 1, 2)),  # it waits for a node
    ],
)
def test_plan(nodes, may_grow, batch, workers, gpus, expected):
    found = plan(
        nodes,
        config("float32", "true", global_batch=batch),
        workers=workers,
        gpus=gpus,
        may_grow=may_grow,
    )
    assert found == expected


@pytest.mark.parametrize(
    ("nodes", "may_grow", "workers", "gpus", "message"),
    [
        ([HEAD], True, None, None, "--gpus-per-worker: no node of the cluster has a GPU now"),
        ([Node(96, 8)], False, (5, 5), None, "batch.global_batch 4: leaves nothing for some of 5"),
        ([Node(96, 8)], False, None, 8, "batch.global_batch 4: leaves nothing for some of 8"),
        ([Node(96, 2)], False, (3, 3), None, "3 worker(s) with 1 CPU(s) and 1 GPU(s) each are"),
        ([Node(96, 2)], False, None, 3, "1 worker(s) with 1 CPU(s) and 3 GPU(s) each are asked"),
    ],
)
def test_plan_refuses(nodes, may_grow, workers, gpus, message):
    with pytest.raises(UserError) as error:
        plan(
            nodes,
            config("float32", "true", global_batch=4),
            workers=workers,
            gpus=gpus,
            may_grow=may_grow,
        )
    assert message in str(error.value)


def test_plan_names_the_gpus_that_stay_idle(caplog):
    with caplog.at_level(logging.WARNING):
        for batch, is_told in ((8, False), (7, True)):
            caplog.clear()
            plan(
                [Node(96, 8)],
                config("float32", "true", global_batch=batch),
                workers=None,
                gpus=None,
                may_grow=False,
            )
            expected = f"batch.global_batch {batch}: has an example for 7 of the 8 GPUs"
            assert any(expected in line for line in caplog.messages) == is_told
