import pytest

from srgan.training.resources import Node, Workers, describe_nodes, fitting, plan_workers

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
