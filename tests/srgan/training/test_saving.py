"""How long the training waits for its saves, and what a failed one stops."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from data_pipeline.platform.storage import open_storage
from srgan.metrics_log import read_metrics
from srgan.training import saving
from srgan.training.checkpoint import Position, newest_position, write_checkpoint
from srgan.training.lease import hold_lease
from srgan.training.phases import Phase
from srgan.training.saving import Saver
from srgan.training.state import begin_phase, build_networks, state_arrays
from srgan.training.totals import FinishedEpoch
from tests.conftest import PATIENCE
from tests.srgan.session import config

PHASE = Phase("pretrain", config("float32", "true").phases["pretrain"], 0, 9, 1, is_last=True)


class Saves:
    """A Saver whose checkpoints are written when `may_write` allows it."""

    def __init__(self, folder, lease, monkeypatch):
        settings = config("float32", "true")
        state = begin_phase(build_networks(settings, scale=4), PHASE.config, steps=9)
        self.arrays = state_arrays(state)
        self.run = open_storage(str(folder))
        self.copied_after: list[int | None] = []  # steps of the checkpoints that were there
        self.saver = Saver(settings, self.run, lease, scale=4, step=0, validation=None)
        self.writing, self.may_write = threading.Semaphore(0), threading.Semaphore(0)

        def write(*arguments):
            self.writing.release()
            assert self.may_write.acquire(timeout=PATIENCE)
            return write_checkpoint(*arguments)

        monkeypatch.setattr(saving, "write_checkpoint", write)

    def save(self, step):
        """The end of an epoch of one step."""
        record = {"phase": "pretrain", "epoch": step, "step": step, "time": 1.0}
        position = Position(step, "pretrain", 0, 0, {})
        self.saver.save(self.copy, position, FinishedEpoch(PHASE, step, record))

    def copy(self):
        position = newest_position(self.run)
        self.copied_after.append(position and position.step)
        return self.arrays

    def epochs(self):
        """What RUN holds: lines of the log, generators."""
        assert [line["epoch"] for line in read_metrics(self.run)] == list(
            range(1, len(self.run.list("generators/")) + 1)
        )
        return len(read_metrics(self.run))


@pytest.fixture
def saves(tmp_path, monkeypatch):
    with hold_lease(open_storage(str(tmp_path))) as lease:
        yield Saves(tmp_path, lease, monkeypatch)


def test_one_save_may_wait_and_none_is_dropped(saves):
    """The third one begins, and copies the state, when the first is written."""
    saves.save(1)
    assert saves.writing.acquire(timeout=PATIENCE)
    saves.save(2)
    with ThreadPoolExecutor(1) as training:
        third = training.submit(saves.save, 3)
        assert not third.done()
        saves.may_write.release()
        third.result(PATIENCE)
    assert saves.copied_after == [None, None, 1]
    saves.may_write.release(2)
    saves.saver.finish(is_run_end=True)
    assert saves.epochs() == 3
    assert newest_position(saves.run).step == 3


def test_after_a_failed_save_nothing_is_saved(saves, monkeypatch):
    """So that no run goes on from a checkpoint after an epoch whose generator is not there."""
    failure = OSError("disk")

    def fail(*_):
        saves.writing.release()
        assert saves.may_write.acquire(timeout=PATIENCE)
        raise failure

    monkeypatch.setattr(saving, "write_checkpoint", fail)
    saves.save(1)
    assert saves.writing.acquire(timeout=PATIENCE)
    saves.save(2)
    saves.may_write.release(2)
    with pytest.raises(OSError, match="disk"):
        saves.saver.finish(is_run_end=False)
    with pytest.raises(OSError, match="disk"):
        saves.save(3)
    saves.saver.finish_after(failure)
    assert saves.epochs() == 1
    assert saves.copied_after == [None, None]
    assert newest_position(saves.run) is None
