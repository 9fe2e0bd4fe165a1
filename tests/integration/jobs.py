"""The jobs for tests: as processes, as a person starts them, or in this process."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from data_pipeline.platform.storage import open_storage
from srgan.training.checkpoint import newest_checkpoint, newest_position
from tests.conftest import PATIENCE, ROOT
from tests.srgan.session import assert_same_bytes

SCORES = ("validation_", "bicubic_")  # what these names begin with in a line of the log

_started: list[subprocess.Popen] = []


def start(job: str, *arguments: Any, address: str | None = None) -> subprocess.Popen:
    """Starts a job in a session of its own; without an address, without this process's Ray.

    It fails if its driver imports TensorFlow.
    """
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    if address:
        environment["RAY_ADDRESS"] = address
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.integration.guarded_job", job, *map(str, arguments)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    _started.append(process)
    return process


def end_all() -> None:
    """Kills the jobs that a failed test left."""
    for process in _started:
        if process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    _started.clear()


def finish(job: str, *arguments: Any, address: str | None = None) -> str:
    """Runs a job to its end; returns what it printed."""
    return output_of(start(job, *arguments, address=address), code=0)


def output_of(process: subprocess.Popen, *, code: int) -> str:
    """What a job printed, once it has ended with this exit code."""
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == code, output
    return output


def refusal(process: subprocess.Popen, *, code: int = 2) -> str:
    """The one line by which a job says why it ended, without `error: `."""
    output = output_of(process, code=code)
    lines = output.splitlines()  # those of Ray's processes begin with their names
    assert code == 1 or not any(line.startswith("Traceback") for line in lines), output
    errors = [line for line in lines if line.startswith("error: ")]
    assert len(errors) == 1, output
    (error,) = errors
    return error.removeprefix("error: ")


def wait_until(process: subprocess.Popen, condition: Callable[[], bool]) -> None:
    """Waits for a condition that a job has to meet while it runs."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def interrupt(
    process: subprocess.Popen, kind: signal.Signals, condition: Callable[[], bool]
) -> str:
    """Sends a signal as soon as the condition holds; returns what the job printed."""
    wait_until(process, condition)
    process.send_signal(kind)
    return output_of(process, code=-kind if kind == signal.SIGKILL else 1)


def records(run: Path) -> list[dict]:
    """The lines of RUN's log."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def last_step(run: Path) -> int:
    """The step of RUN's newest checkpoint; 0 without one."""
    position = newest_position(open_storage(str(run)))
    return position.step if position else 0


def starts(output: str) -> list[int]:
    """The steps that the attempts of a run began with."""
    return [int(part.split()[0]) for part in output.split("starting at step ")[1:]]


def assert_same_end(run: Path, expected: Path) -> None:
    """Same arrays to the last byte, same lines in the log but for times and speeds.

    Epochs that end while another one is validated have no scores; the last one always has.
    """
    one, other = (newest_checkpoint(open_storage(str(folder))) for folder in (run, expected))
    assert one.position == other.position
    assert_same_bytes(other.arrays, one.arrays)
    measured = ("time", "seconds", "per_second", "bytes")
    lines, expected_lines = (
        [
            {key: value for key, value in record.items() if not any(m in key for m in measured)}
            for record in records(folder)
        ]
        for folder in (run, expected)
    )
    assert len(lines) == len(expected_lines)
    for line, expected_line in zip(lines, expected_lines, strict=True):
        for name in line.keys() ^ expected_line.keys():
            assert name.startswith(SCORES)
            assert line is not lines[-1]
            del (line if name in line else expected_line)[name]
        assert line.pop("phase") == expected_line.pop("phase")
        assert line == pytest.approx(expected_line, rel=1e-12)


def validated(run: Path) -> list[dict]:
    """The lines of RUN's log whose epochs were validated; the last one is among them."""
    lines = [line for line in records(run) if "validation_psnr_y" in line]
    assert lines[-1] == records(run)[-1]
    return lines


def assert_goodput(run: Path, output: str) -> list[dict]:
    """A run that nobody stopped says its goodput, computed here by hand; returns its jobs."""
    uses = [f"{use}_seconds" for use in ("compute", "data_wait", "save", "startup", "other")]
    for line in records(run):
        assert all(line[use] >= 0 for use in uses)
        # All of the loop's, and the worker's until the loop began.
        assert sum(line[use] for use in uses) >= line["seconds"] - 0.01
    noted = json.loads((run / "goodput.json").read_text())
    jobs = noted["jobs"]
    useful = sum(line["compute_seconds"] for line in records(run))
    total = jobs[-1]["ended"] - jobs[0]["began"]
    assert 0 < useful < total
    assert noted["goodput"] == pytest.approx(useful / total, abs=1e-4)
    assert noted["seconds"]["compute"] == pytest.approx(useful, abs=1e-3)
    assert sum(noted["seconds"].values()) == pytest.approx(total, abs=0.01)
    assert noted["paused_seconds"] == 0
    assert (
        f"goodput {100 * useful / total:.1f} %: {useful:.1f} s of useful steps in {total:.1f} s "
        f"of {len(jobs)} job(s) (compute"
    ) in output
    return jobs
