"""Where a run's time went."""

import json
import logging
from types import SimpleNamespace

import pytest

from data_pipeline.platform.storage import open_storage
from srgan.metrics_log import MetricsLog
from srgan.training import goodput as goodput_module
from srgan.training.goodput import Goodput, Job, describe, goodput, recorded_job
from srgan.training.lease import hold_lease


def epoch(step, *, compute, data_wait=0.0, save=0.0, startup=0.0, other=0.0):
    seconds = {"compute": compute, "data_wait": data_wait, "save": save, "startup": startup}
    return {"step": step} | {f"{use}_seconds": s for use, s in (seconds | {"other": other}).items()}


def test_a_run_that_was_killed_and_stopped():
    """Killed at 100 or later, again at 130, stopped at 200, a week later to the end in 40 s."""
    week = 7 * 24 * 3600
    jobs = [Job(0, None), Job(130, 200), Job(200 + week, 240 + week)]
    records = [
        epoch(10, compute=60, data_wait=1, save=2, startup=12, other=1),
        epoch(20, compute=70, startup=20),
        {"step": 30, "seconds": 100},  # of a version that knew no goodput
    ]
    found = goodput(jobs, records)
    assert found.total == 240
    assert found.share == 130 / 240
    assert found.uses == {"compute": 130, "data_wait": 1, "save": 2, "startup": 32, "other": 1}
    assert found.lost == 240 - 166
    assert found.paused == week
    assert describe(found, 3) == (
        "goodput 54.2 %: 130.0 s of useful steps in 240.0 s of 3 job(s) (compute 54.1 %, waiting "
        "for data 0.4 %, saving 0.8 %, start-up and compiling 13.3 %, other 0.4 %, starts, ends "
        "and lost work 31.0 %); 168:00:00 between jobs do not count"
    )


def test_an_undisturbed_run():
    found = goodput([Job(5, 25)], [epoch(10, compute=15, startup=3, other=1)])
    assert found == Goodput(
        {"compute": 15, "data_wait": 0, "save": 0, "startup": 3, "other": 1}, lost=1, paused=0
    )
    assert "between jobs" not in describe(found, 1)


def fail(run, lease, began, before):
    with recorded_job(run, lease, began):
        before()
        raise FileExistsError


def test_jobs_are_noted(tmp_path, monkeypatch, caplog):
    """One is killed, one stops, one ends; the last one says what became of their time."""
    run, clock = open_storage(str(tmp_path)), iter([50.0, 90.0])
    monkeypatch.setattr(goodput_module, "time", SimpleNamespace(time=lambda: next(clock)))
    killed = {"began": 10.0, "ended": None}
    run.write("goodput.json", json.dumps({"jobs": [killed]}).encode())

    seen = []

    def noted():
        return json.loads(run.read("goodput.json"))

    with hold_lease(run) as lease:
        with pytest.raises(FileExistsError):
            fail(run, lease, 30.0, lambda: seen.append(noted()))
        assert seen == [{"jobs": [killed, {"began": 30.0, "ended": None}]}]
        assert noted() == {"jobs": [killed, {"began": 30.0, "ended": 50.0}]}
        with caplog.at_level(logging.INFO), recorded_job(run, lease, 70.0):
            MetricsLog(run, step=0).append(epoch(10, compute=45, save=5))
    assert noted() == {
        "jobs": [
            killed,
            {"began": 30.0, "ended": 50.0},
            {"began": 70.0, "ended": 90.0},
        ],
        "goodput": 0.75,
        "seconds": {
            "compute": 45,
            "data_wait": 0,
            "save": 5,
            "startup": 0,
            "other": 0,
            "lost": 10.0,
        },
        "paused_seconds": 20.0,
    }
    assert "goodput 75.0 %: 45.0 s of useful steps in 60.0 s of 3 job(s)" in caplog.text


def test_a_job_that_lost_the_run_notes_nothing(tmp_path):
    run = open_storage(str(tmp_path))
    with hold_lease(run) as lease, pytest.raises(FileExistsError):
        fail(run, lease, 10.0, lambda: run.write("lease/000009.json", b"{}"))
    assert json.loads(run.read("goodput.json")) == {"jobs": [{"began": 10.0, "ended": None}]}
