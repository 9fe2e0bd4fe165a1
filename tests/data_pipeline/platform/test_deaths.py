"""Processes that were killed: what is said of them, by the words of Ray 2.60."""

import os
import signal

import pytest
import ray
from ray.exceptions import ActorDiedError, OutOfMemoryError, RayTaskError, WorkerCrashedError

from data_pipeline.platform.deaths import explain_death, one_line

MONITOR = (
    "1 worker(s) were killed due to the node running low on memory. Memory on the node (IP: "
    "10.0.0.7, ID: 1d3b) was 2.84GB used / 23.54GB limit (0.120803)\nOOM kill reason: ..."
)


class DiedError(ActorDiedError):
    """With a text that a real one only gets from its cause."""

    def __init__(self, text: str):
        Exception.__init__(self, text)

    __str__ = Exception.__str__


@pytest.mark.parametrize("kind", [OutOfMemoryError, DiedError])
def test_what_rays_monitor_ends_has_its_node_and_its_memory(kind):
    error = kind(MONITOR)
    assert explain_death(error) == one_line(error)
    assert one_line(error) == (
        "the memory of node 10.0.0.7 was full (2.84GB of 23.54GB), and Ray ended the process"
    )


def test_an_unknown_text_of_the_monitor_still_says_memory():
    assert "memory was full" in one_line(OutOfMemoryError("other words"))


def test_other_errors_are_told_as_they_are():
    error = RayTaskError("f", "trace", ValueError("two\nlines"))
    assert explain_death(error) is None
    assert one_line(ValueError("two\nlines")) == "ValueError: two lines"
    assert (
        explain_death(DiedError("The actor is dead because it was killed by `ray.kill`.")) is None
    )


def test_a_killed_actor_and_its_node(ray_local):
    @ray.remote(num_cpus=0)
    class Actor:
        def die(self):
            os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(ActorDiedError) as death:
        ray.get(Actor.remote().die.remote())
    assert explain_death(death.value) == (
        f"the process on node {ray.util.get_node_ip_address()} was killed or crashed; most "
        "often its memory was full"
    )
    assert explain_death(WorkerCrashedError()) == (
        "the process was killed or crashed; most often its memory was full"
    )
