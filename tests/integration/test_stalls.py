"""Workers that are stopped, hang or are slow, under a real Ray: they are named."""

import os
import re
from pathlib import Path
from typing import Any

import pytest
import ray

from data_pipeline.platform.errors import JobFailedError
from tests.integration.test_workers import configuration, newest, run_workers


def disturbed(folder: Path, rank: int, how: str) -> Any:
    """Workers of which one is stopped, or hangs between two calls, once at step 8.

    Before its second call it waits twice as long as the first one took.
    """

    def worker(**arguments: Any) -> Any:
        import signal
        import threading
        import time

        import ray.train

        from srgan.training.loop import Loop
        from srgan.training.worker import train_worker

        call = Loop._call

        def hang_in_this_function():
            (folder / "hung").touch()
            if how == "stopped":
                os.kill(os.getpid(), signal.SIGSTOP)
            else:
                threading.Event().wait()

        def disturbed_call(loop, *given):
            if ray.train.get_context().get_world_rank() == rank:
                if loop._step == 2:
                    time.sleep(2 * loop._totals.sums["first_call_seconds"])
                if loop._step == 8 and not (folder / "hung").exists():
                    hang_in_this_function()
            return call(loop, *given)

        Loop._call = disturbed_call
        return train_worker(**arguments)

    return worker


def run_disturbed(data: Path, folder: Path, *, rank: int, how: str, restarts: int) -> None:
    marks = folder / "marks"
    marks.mkdir()
    config = configuration()
    failures = config.failures.model_copy(update={"stall_minutes": 0.5, "restarts": restarts})
    config = config.model_copy(update={"failures": failures})
    run_workers(config, data, folder / "run", count=2, worker=disturbed(marks, rank, how))


def named(rank: int, reason: str, lines: list[str]) -> str:
    """The stacks of a worker that the log names, with its node, once."""
    node = ray.util.get_node_ip_address()
    (hung,) = (line for line in lines if line.startswith("worker ") and " hangs: " in line)
    name = re.match(rf"(worker {rank} \(process \d+ on node {node}\)) hangs: {reason}", hung)
    assert name, hung
    (stacks,) = (line for line in lines if line.startswith(f"the Python stacks of {name[1]}:"))
    assert stacks.count("Thread 0x") > 1
    return stacks


@pytest.mark.slow
def test_a_stopped_worker_is_named_and_the_run_goes_on(small_data, tmp_path, caplog):
    """The first one, in which TensorFlow's service for the others is. Slow before, it is named."""
    # More restarts than the one it needs: on a busy machine a worker may also fail in its set-up.
    run_disturbed(small_data, tmp_path, rank=0, how="stopped", restarts=3)
    assert newest(tmp_path / "run").position.step == 14
    lines = caplog.messages
    # Woken up for its stacks, it went on from where it was stopped.
    assert "loop.py" in named(0, r"no sign of life for \d+ s, last seen at step \d", lines)
    slowest = "pretrain epoch 1: worker 0 (process "
    assert any(line.startswith(slowest) and " was the slowest: of " in line for line in lines)


@pytest.mark.slow
def test_a_worker_that_hangs_is_named_and_its_end_counts_as_a_restart(small_data, tmp_path, caplog):
    """It lives and sends beats; the other one waits for it in a collective operation."""
    reason = r"at step 8 between two calls for \d+ s"
    with pytest.raises(JobFailedError, match=rf"training failed: worker 1 \(.*: {reason}"):
        run_disturbed(small_data, tmp_path, rank=1, how="hangs", restarts=0)
    assert newest(tmp_path / "run").position.step == 6
    assert "in hang_in_this_function" in named(1, reason, caplog.messages)
