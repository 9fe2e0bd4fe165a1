"""Checkpoints in a RUN: whole or damaged, which one is taken, what is tidied up."""

import logging

import numpy as np
import pytest

from data_pipeline.platform.storage import open_storage
from srgan.training.checkpoint import (
    Position,
    newest_checkpoint,
    newest_position,
    prune_checkpoints,
    read_checkpoint,
    write_checkpoint,
)
from srgan.training.failures import DamagedCheckpointError
from srgan.training.state import set_state, state_arrays
from tests.srgan.session import Session, config


@pytest.fixture
def run(tmp_path):
    """A RUN with checkpoints of steps 5, 10 and 20."""
    storage = open_storage(str(tmp_path / "run"))
    for step in (10, 20, 5):
        position = Position(step, "gan", 4, 1, {"mse": step / 3, "steps": 2})
        arrays = {"generator/0000": np.full((2, 3), step, np.float32)}
        write_checkpoint(storage, arrays, position)
    return storage


def name_of(run, step):
    (found,) = (name for name in names(run) if name.startswith(f"{step:09}-"))
    return found


def steps(run):
    return sorted(int(name.split("-")[0]) for name in names(run))


def test_what_is_read_is_what_was_written(run):
    found = newest_checkpoint(run)
    assert found.name == name_of(run, 20)
    assert found.position == Position(20, "gan", 4, 1, {"mse": 20 / 3, "steps": 2})
    assert found.position == newest_position(run)
    (array,) = found.arrays.values()
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, np.full((2, 3), 20))


def test_nothing_is_found_where_nothing_is(tmp_path):
    storage = open_storage(str(tmp_path))
    assert newest_checkpoint(storage) is None
    assert newest_position(storage) is None


def spoil(run, step):
    key = f"checkpoints/{name_of(run, step)}/state.npz"
    content = bytearray(run.read(key))
    content[len(content) // 2] ^= 1
    run.write(key, bytes(content))


def test_a_damaged_one_is_named_and_the_one_before_it_taken(run, caplog):
    spoil(run, 20)
    with caplog.at_level(logging.WARNING):
        assert newest_checkpoint(run).position.step == 10
    assert f"{run.uri}/checkpoints/{name_of(run, 20)}/state.npz: expected sha256 " in caplog.text
    assert "; the checkpoint before it is taken" in caplog.text


def test_where_all_are_damaged_the_run_does_not_begin_again(run):
    for step in (5, 10, 20):
        spoil(run, step)
    with pytest.raises(DamagedCheckpointError, match="every checkpoint is damaged; put a copy"):
        newest_checkpoint(run)


def test_a_missing_file_and_a_damaged_description_are_named(run):
    last, middle = name_of(run, 20), name_of(run, 10)
    run.delete(f"checkpoints/{last}/state.npz")
    with pytest.raises(DamagedCheckpointError, match=rf"{last}/state\.npz: is missing"):
        read_checkpoint(run, last)
    run.write(f"checkpoints/{middle}/checkpoint.json", b'{"step": 10')
    with pytest.raises(DamagedCheckpointError, match=rf"{middle}/checkpoint\.json: is not what"):
        read_checkpoint(run, middle)
    assert newest_checkpoint(run).position.step == 5


def test_without_its_description_a_checkpoint_does_not_exist(run):
    run.delete(f"checkpoints/{name_of(run, 20)}/checkpoint.json")
    assert newest_checkpoint(run).position.step == 10


def names(run):
    return {item.key.split("/")[1] for item in run.list("checkpoints/")}


def test_the_last_ones_stay_and_what_is_unfinished_goes(run):
    run.write("checkpoints/000000030-1/state.npz", b"begun")
    run.write("checkpoints/checkpoint_manager_snapshot.json", b"of an earlier version")
    prune_checkpoints(run, newest=newest_checkpoint(run).name, keep=2)
    assert steps(run) == [10, 20]
    assert len(names(run)) == 2


def test_what_the_run_did_not_go_on_from_goes(run):
    spoil(run, 20)
    found = newest_checkpoint(run)
    name = write_checkpoint(run, found.arrays, found.position._replace(step=12))
    prune_checkpoints(run, newest=name, keep=3)
    assert steps(run) == [5, 10, 12]


def test_a_checkpoint_of_another_network_is_refused_and_changes_nothing(small_data, tmp_path):
    Session(small_data, config("float32", "true"), 1).save(tmp_path, 3)
    other = Session(small_data, config("float32", "false"), 1).state
    before = state_arrays(other)
    found = newest_checkpoint(open_storage(str(tmp_path)))
    with pytest.raises(DamagedCheckpointError, match="holds the variables of another"):
        set_state(other, found.arrays, found.name)
    for key, value in state_arrays(other).items():
        assert value.tobytes() == before[key].tobytes()


def test_a_checkpoint_holds_no_pickle(small_data, tmp_path):
    Session(small_data, config("float32", "true", more="generator_average: 0.9"), 1, "gan").save(
        tmp_path, 3
    )
    (path,) = tmp_path.glob("checkpoints/*/state.npz")
    with np.load(path, allow_pickle=False) as arrays:
        parts = {key.split("/")[0] for key in arrays.files}
        assert all(arrays[key].dtype != object for key in arrays.files)
    assert parts == {
        "generator",
        "generator_optimizer",
        "average",
        "discriminator",
        "discriminator_optimizer",
    }
