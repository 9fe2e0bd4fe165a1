import logging

import pytest

from data_pipeline.platform import progress
from data_pipeline.platform.progress import BYTES, Progress


@pytest.fixture
def now(monkeypatch, caplog):
    """The clock: a list of one time."""
    caplog.set_level(logging.INFO)
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    return clock


def test_progress_in_a_log(now, caplog):
    with Progress("DIV2K_train_HR.zip", 3_530_603_713, BYTES, done=1_000_000_000) as bar:
        bar.advance(1)
        now[0] = 20.0
        bar.advance(220_000_000 - 1)
    with Progress("prepare", 1, "parts") as bar:
        now[0] += 2
        bar.advance()
    assert caplog.messages == [
        "DIV2K_train_HR.zip: 1.2 GB of 3.5 GB, 11 MB a second, 3:30 left",
        "prepare: 1 of 1 parts, 0.5 a second, 0:00 left",
    ]


def test_nothing_done_yet_has_no_rate(now, caplog):
    with Progress("prepare", 4, "parts") as bar:
        now[0] = 11.0
        bar.advance(0)
    with Progress("resumed", 4, "parts", done=4) as bar:
        bar.advance(0)
    assert caplog.messages == [
        "prepare: 0 of 4 parts, 0 a second, time left not known yet",
        "resumed: 4 of 4 parts, 0 a second, 0:00 left",
    ]


def test_the_start_of_the_first_tasks_does_not_count_for_long(now, caplog):
    """Tasks begin after 30 s and then end every second. After 81 s, 49 s are left."""
    with Progress("prepare", 100, "parts") as bar:
        for second in range(31, 91):
            now[0] = float(second)
            bar.advance()
    assert caplog.messages[-1] == "prepare: 51 of 100 parts, 1 a second, 0:49 left"
