"""Trainings that are stopped: killed, by Ctrl-C, by SIGTERM. They go on bit for bit."""

import signal
import time

import pytest

from jobs import train
from tests.conftest import PATIENCE, assert_refused
from tests.integration.jobs import (
    assert_goodput,
    assert_same_end,
    finish,
    interrupt,
    last_step,
    start,
    starts,
    wait_until,
)


def test_a_killed_run_goes_on_bit_for_bit(undisturbed, small_data, config, command, tmp_path):
    """Said again at once it passes the phase's end. While it lives, no second one may begin.

    The time from the kill to the second start is lost, and so are the steps done again.
    """
    run, begun = tmp_path / "run", time.time()
    arguments = ["--config", config, "--data", small_data, "--run", run]
    process = start("train", *arguments)
    wait_until(process, lambda: any(run.glob("lease/*.json")))
    process.send_signal(signal.SIGSTOP)  # so that it cannot end before the second one looks
    message = f"error: {run}: is being trained by process {process.pid} on "
    assert_refused(command(train, *arguments), message)
    process.send_signal(signal.SIGCONT)
    interrupt(process, signal.SIGKILL, lambda: last_step(run) >= 10)
    output = finish("train", *arguments)
    assert "RunConfig" not in output  # Ray's own words of a run that goes on
    assert starts(output)[0] >= 10
    assert_same_end(run, undisturbed)
    first, second = assert_goodput(run, output)
    assert begun <= first["began"] < second["began"] < second["ended"] <= time.time()
    assert first["ended"] is None


@pytest.mark.soak
def test_a_killed_run_of_two_workers_goes_on_bit_for_bit(small_data, config, tmp_path):
    arguments = ["--config", config, "--data", small_data, "--num-workers", 2, "--run"]
    run, undisturbed = tmp_path / "run", tmp_path / "undisturbed"
    finish("train", *arguments, undisturbed)
    for step in (10, 50):
        process = start("train", *arguments, run)
        interrupt(process, signal.SIGKILL, lambda step=step: last_step(run) >= step)
    finish("train", *arguments, run)
    assert_same_end(run, undisturbed)


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(signal.SIGINT, marks=pytest.mark.slow, id="ctrl-c"),
        pytest.param(signal.SIGTERM, marks=pytest.mark.soak, id="term"),
    ],
)
def test_a_stopped_run_saves_and_goes_on_bit_for_bit(
    kind, undisturbed, small_data, config, tmp_path
):
    run = tmp_path / "run"
    arguments = ["--config", config, "--data", small_data, "--run", run]
    arguments += ["--set", "checkpoints.every_steps=1000"]  # a run may change how often it saves
    log = run / "metrics.jsonl"
    output = interrupt(start("train", *arguments), kind, log.exists)
    assert "stopping after a checkpoint; once more stops at once" in output
    assert "interrupted: run the same command again to go on" in output
    step = last_step(run)
    assert f"a checkpoint of step {step} is saved" in output
    assert starts(finish("train", *arguments)) == [step]
    assert_same_end(run, undisturbed)


@pytest.mark.slow
def test_a_second_signal_stops_at_once(small_data, config, tmp_path):
    process = start("train", "--config", config, "--data", small_data, "--run", tmp_path / "run")
    assert any("starting at step" in line for line in process.stdout)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    output = "".join(process.stdout)
    assert process.wait(PATIENCE) == 1
    assert "interrupted: run the same command again to go on" in output
    assert "is saved" not in output
