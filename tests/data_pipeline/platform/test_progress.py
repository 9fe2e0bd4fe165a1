import logging

from data_pipeline.platform.progress import BYTES, Progress


def test_progress_in_a_log(monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    now = [0.0]
    monkeypatch.setattr("data_pipeline.platform.progress.time.monotonic", lambda: now[0])
    with Progress("DIV2K_train_HR.zip", 3_530_603_713, BYTES, done=1_000_000_000) as progress:
        progress.advance(1)
        now[0] = 20.0
        progress.advance(220_000_000 - 1)
    with Progress("prepare", 1, "parts") as progress:
        now[0] += 2
        progress.advance()
    assert caplog.messages == [
        "DIV2K_train_HR.zip: 1.2 GB of 3.5 GB, 11 MB a second, 3:30 left",
        "prepare: 1 of 1 parts, 0.5 a second, 0:00 left",
    ]
