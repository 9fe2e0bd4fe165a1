"""Training workers under a real Ray: two against one, what ends a run, what it outlives."""

import errno
import os
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_pipeline.platform.errors import JobFailedError, UserError
from data_pipeline.platform.storage import open_storage
from srgan.config import Config
from srgan.config_file import dump_config, parse_config
from srgan.run_layout import CONFIG_KEY
from srgan.training.checkpoint import Checkpoint, newest_checkpoint
from srgan.training.lease import hold_lease
from srgan.training.ray_workers import fit
from srgan.training.resources import Workers
from srgan.training.worker import train_worker
from tests.integration.jobs import assert_same_end
from tests.srgan.session import assert_same_bytes

CONFIG = """
seed: 1
precision: {precision}
steps_per_call: 2
generator: {{blocks: 1, filters: 8}}
discriminator: {{filters: 4, dense: 8}}
batch: {{global_batch: 4, hr_crop: 32}}
phases:
  pretrain: {{steps: 4, losses: {{mse: 1}}, learning_rate: {{initial: 1e-3}}}}
  gan:
    steps: 10
    losses: {{mse: 1, adversarial: 1e-2}}
    learning_rate: {{initial: {rate}, decay: drop}}
checkpoints: {{every_steps: 3, keep: 10}}
"""


def configuration(precision: str = "float32", rate: str = "1e-3") -> Config:
    return parse_config(CONFIG.format(precision=precision, rate=rate), "test")


def run_workers(config: Config, data: Path, run: Path, *, count: int, worker: Any) -> None:
    open_storage(str(run)).write(CONFIG_KEY, dump_config(config).encode())
    storage = open_storage(str(run))
    with hold_lease(storage) as lease:
        arguments = {
            "config": config,
            "data": open_storage(str(data)),
            "run": storage,
            "lease": lease,
            "gpus": 0,
        }
        fit(worker, arguments, Workers(count, count, 1, 0), failures=config.failures)


def watched(folder: Path) -> Any:
    """A worker that also leaves its own state in `folder` at every save, whatever its rank."""

    def worker(**arguments: Any) -> Any:
        import ray.train

        from srgan.training.loop import Loop
        from srgan.training.state import state_arrays
        from srgan.training.worker import train_worker

        save = Loop._save

        def save_and_tell(loop, phase, state, epoch):
            rank = ray.train.get_context().get_world_rank()
            np.savez(folder / f"{loop._step:02}-rank{rank}.npz", **state_arrays(state))
            save(loop, phase, state, epoch)

        Loop._save = save_and_tell
        return train_worker(**arguments)

    return worker


def newest(run: Path) -> Checkpoint:
    checkpoint = newest_checkpoint(open_storage(str(run)))
    assert checkpoint is not None
    return checkpoint


def test_two_workers_reach_the_weights_of_one(small_data, tmp_path):
    """float64, BN on: after 10 steps of the gan phase all arrays are equal within rounding."""
    config = configuration("float64")
    final = {}
    for count in (1, 2):
        states = tmp_path / f"states{count}"
        states.mkdir()
        run = tmp_path / f"run{count}"
        run_workers(config, small_data, run, count=count, worker=watched(states))
        final[count] = newest(run)
    assert final[1].position.step == final[2].position.step == 14
    assert final[1].arrays.keys() == final[2].arrays.keys()
    for key, value in final[1].arrays.items():
        # A bias before BN has no gradient but what rounding leaves of it.
        np.testing.assert_allclose(final[2].arrays[key], value, rtol=1e-6, atol=1e-10, err_msg=key)
    saves = sorted((tmp_path / "states2").iterdir())
    steps = sorted({path.name[:2] for path in saves})
    assert steps == ["03", "04", "06", "09", "12", "14"]
    assert len(saves) == 2 * len(steps)
    for step in steps:
        one, two = (np.load(tmp_path / "states2" / f"{step}-rank{rank}.npz") for rank in (0, 1))
        assert set(one.files) == set(two.files)
        for key in one.files:  # weights, BN statistics, optimizers
            assert one[key].tobytes() == two[key].tobytes(), (step, key)


@pytest.fixture(scope="module")
def whole(small_data, tmp_path_factory) -> Checkpoint:
    """The end of a run that nothing disturbed."""
    run = tmp_path_factory.mktemp("whole") / "run"
    run_workers(configuration(), small_data, run, count=1, worker=train_worker)
    return newest(run)


def assert_equal(found: Checkpoint, expected: Checkpoint) -> None:
    assert found.position == expected.position
    assert_same_bytes(expected.arrays, found.arrays)


@pytest.mark.slow
def test_what_is_not_finite_ends_the_run_at_once(small_data, tmp_path):
    run = tmp_path / "run"
    with pytest.raises(JobFailedError) as error:
        run_workers(configuration(rate="1e30"), small_data, run, count=1, worker=train_worker)
    message = str(error.value)
    assert message.startswith("training failed: ")
    assert " is nan at step " in message
    assert ": set failures.skip_steps to go on, or begin another --run with a lower" in message
    assert newest(run).position.step == 4  # the pretrain phase's end


def failing_once(step: int, folder: Path, error: Exception, times: int = 1) -> Any:
    """A worker whose storage fails when the checkpoint of a step is written, so many times."""

    def worker(**arguments: Any) -> Any:
        from srgan.training import saving
        from srgan.training.worker import train_worker

        write = saving.write_checkpoint

        def fail(run, arrays, position):
            failures = len(list(folder.iterdir()))
            if position.step == step and failures < times:
                (folder / str(failures)).touch()
                raise error
            return write(run, arrays, position)

        saving.write_checkpoint = fail
        return train_worker(**arguments)

    return worker


@pytest.mark.slow
def test_a_full_disk_ends_the_run_and_keeps_what_there_is(small_data, whole, tmp_path):
    run, marks = tmp_path / "run", tmp_path / "marks"
    marks.mkdir()
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(run))
    worker = failing_once(9, marks, full)
    with pytest.raises(JobFailedError, match=r"training failed: .*No space left on device"):
        run_workers(configuration(), small_data, run, count=1, worker=worker)
    assert newest(run).position.step == 6
    run_workers(configuration(), small_data, run, count=1, worker=train_worker)
    assert_equal(newest(run), whole)


@pytest.mark.slow
def test_a_failure_that_may_pass_is_tried_again(small_data, whole, tmp_path):
    run, marks = tmp_path / "run", tmp_path / "marks"
    marks.mkdir()
    worker = failing_once(9, marks, OSError(errno.EIO, os.strerror(errno.EIO)))
    run_workers(configuration(), small_data, run, count=1, worker=worker)
    assert len(list(marks.iterdir())) == 1
    assert_equal(newest(run), whole)


@pytest.mark.slow
def test_it_is_not_tried_more_often_than_configured(small_data, tmp_path):
    run, marks = tmp_path / "run", tmp_path / "marks"
    marks.mkdir()
    config = configuration()
    config = config.model_copy(
        update={"failures": config.failures.model_copy(update={"restarts": 1})}
    )
    worker = failing_once(3, marks, OSError(errno.EIO, os.strerror(errno.EIO)), times=9)
    with pytest.raises(JobFailedError, match=r"training failed: .*Input/output error"):
        run_workers(config, small_data, run, count=1, worker=worker)
    assert len(list(marks.iterdir())) == 2


@pytest.mark.slow
def test_a_damaged_checkpoint_is_passed_over(small_data, whole, tmp_path):
    run, marks = tmp_path / "run", tmp_path / "marks"
    marks.mkdir()
    worker = failing_once(12, marks, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    with pytest.raises(JobFailedError):
        run_workers(configuration(), small_data, run, count=1, worker=worker)
    assert newest(run).position.step == 9
    path = run / "checkpoints" / newest(run).name / "state.npz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert newest(run).position.step == 6
    run_workers(configuration(), small_data, run, count=1, worker=train_worker)
    assert_equal(newest(run), whole)


@pytest.mark.slow
def test_a_killed_worker_is_one_line(small_data, tmp_path):
    def worker(**_: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    config = configuration()
    config = config.model_copy(
        update={"failures": config.failures.model_copy(update={"restarts": 0})}
    )
    with pytest.raises(
        JobFailedError, match=r"^training failed: the process on node \S+ was killed"
    ):
        run_workers(config, small_data, tmp_path / "run", count=1, worker=worker)


def test_a_cluster_that_stays_too_small_is_told(small_data, tmp_path, ray_local):
    """No thread is left that waits in Ray: Python would crash at its end."""
    threads = set(threading.enumerate())
    config = configuration()
    config = config.model_copy(
        update={"failures": config.failures.model_copy(update={"cluster_minutes": 0.05})}
    )
    with pytest.raises(UserError) as error:
        run_workers(config, small_data, tmp_path / "run", count=3, worker=train_worker)
    message = str(error.value)
    assert message.startswith(
        "3 worker(s) with 1 CPU(s) and 0 GPU(s) each are asked for, the cluster has "
    )
    assert "1 node(s) with 2 CPU(s) and 0 GPU(s), 2 CPU(s) and 0 GPU(s) of which" in message
    assert "are free after 0.05 minutes; add nodes, end what else runs there, or ask" in message
    assert set(threading.enumerate()) <= threads


@pytest.mark.slow
def test_a_phase_shortened_to_the_middle_of_an_epoch_is_finished(small_data, tmp_path):
    """Stopped at step 9 of a phase, which is made that long then: as one that always was."""

    def lasting(steps: int) -> Config:
        config = configuration()
        pretrain = config.phases["pretrain"].model_copy(update={"steps": steps})
        return config.model_copy(update={"phases": config.phases | {"pretrain": pretrain}})

    run, expected, marks = tmp_path / "run", tmp_path / "expected", tmp_path / "marks"
    marks.mkdir()
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(JobFailedError):
        run_workers(lasting(100), small_data, run, count=1, worker=failing_once(12, marks, full))
    assert newest(run).position.step == 9
    assert newest(run).position.epoch["steps"] > 0
    run_workers(lasting(9), small_data, run, count=1, worker=train_worker)
    run_workers(lasting(9), small_data, expected, count=1, worker=train_worker)
    assert_same_end(run, expected)
    assert (run / "generators" / "pretrain.keras").exists()
