"""Checkpoints in a RUN: whole or damaged, which one is taken, what is tidied up."""

import json
import logging

import numpy as np
import pytest

from data_pipeline.platform.storage import open_storage
from srgan.training.checkpoint import (
    Position,
    newest_checkpoint,
    newest_position,
    read_checkpoint,
    tidy_checkpoints,
    write_checkpoint,
)
from srgan.training.errors import DamagedCheckpointError
from srgan.training.state import set_state, state_arrays
from tests.srgan.session import Session, config

RAY_STATE = "checkpoints/checkpoint_manager_snapshot.json"


@pytest.fixture
def run(tmp_path):
    """A RUN with checkpoints of steps 5, 10 and 20."""
    storage = open_storage(str(tmp_path / "run"))
    for step in (10, 20, 5):
        position = Position(step, "gan", 4, 1e-4, 1, {"mse": step / 3, "steps": 2})
        arrays = {"generator/0000": np.full((2, 3), step, np.float32)}
        write_checkpoint(storage, f"c{step:02}", arrays, position, config="seed: 3\n", seed=3)
    return storage


def ray_state(names):
    return json.dumps({"checkpoint_results": [{"checkpoint_dir_name": name} for name in names]})


def test_what_is_read_is_what_was_written(run):
    found = newest_checkpoint(run)
    assert found.name == "c20"
    assert found.position == Position(20, "gan", 4, 1e-4, 1, {"mse": 20 / 3, "steps": 2})
    assert found.position == newest_position(run)
    (array,) = found.arrays.values()
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, np.full((2, 3), 20))
    meta = json.loads(run.read("checkpoints/c20/checkpoint.json"))
    assert (meta["seed"], meta["config"]) == (3, "seed: 3\n")


def test_nothing_is_found_where_nothing_is(tmp_path):
    storage = open_storage(str(tmp_path))
    assert newest_checkpoint(storage) is None
    assert newest_position(storage) is None
    tidy_checkpoints(storage, keep=2)


def spoil(run, name):
    key = f"checkpoints/{name}/state.npz"
    content = bytearray(run.read(key))
    content[len(content) // 2] ^= 1
    run.write(key, bytes(content))


def test_a_damaged_one_is_named_and_the_one_before_it_taken(run, caplog):
    spoil(run, "c20")
    with caplog.at_level(logging.WARNING):
        assert newest_checkpoint(run).name == "c10"
    assert f"{run.uri}/checkpoints/c20/state.npz: expected sha256 " in caplog.text
    assert "; the checkpoint before it is taken" in caplog.text


def test_where_all_are_damaged_the_run_does_not_begin_again(run):
    for name in ("c05", "c10", "c20"):
        spoil(run, name)
    with pytest.raises(DamagedCheckpointError, match="every checkpoint is damaged; put a copy"):
        newest_checkpoint(run)


def test_a_missing_file_and_a_damaged_description_are_named(run):
    run.delete("checkpoints/c20/state.npz")
    with pytest.raises(DamagedCheckpointError, match=r"c20/state\.npz: is missing"):
        read_checkpoint(run, "c20")
    run.write("checkpoints/c10/checkpoint.json", b'{"step": 10')
    with pytest.raises(DamagedCheckpointError, match=r"c10/checkpoint\.json: is not what was"):
        read_checkpoint(run, "c10")
    assert newest_checkpoint(run).name == "c05"


def test_without_its_description_a_checkpoint_does_not_exist(run):
    run.delete("checkpoints/c20/checkpoint.json")
    assert newest_checkpoint(run).name == "c10"


def names(run):
    return {item.key.split("/")[1] for item in run.list("checkpoints/")}


def test_rays_list_is_kept_where_it_is_right(run):
    run.write(RAY_STATE, ray_state(["c05", "c10", "c20"]).encode())
    tidy_checkpoints(run, keep=1)
    assert names(run) == {"c05", "c10", "c20", "checkpoint_manager_snapshot.json"}


def test_what_no_list_names_goes_but_for_the_newest(run):
    run.write(RAY_STATE, ray_state(["c05"]).encode())
    run.write("checkpoints/c30/state.npz", b"begun")
    tidy_checkpoints(run, keep=1)
    assert names(run) == {"c05", "c20", "checkpoint_manager_snapshot.json"}


@pytest.mark.parametrize(
    "content", ["", '{"checkpoint_results": [', "{}", ray_state(["c05", "gone"])]
)
def test_a_damaged_list_goes_and_the_newest_checkpoints_stay(run, content):
    run.write(RAY_STATE, content.encode())
    tidy_checkpoints(run, keep=2)
    assert names(run) == {"c10", "c20"}


def test_a_checkpoint_of_another_network_is_refused_and_changes_nothing(small_data, tmp_path):
    Session(small_data, config("float32", "true"), 1).save(tmp_path, 3)
    other = Session(small_data, config("float32", "false"), 1).state
    before = state_arrays(other)
    found = newest_checkpoint(open_storage(str(tmp_path)))
    with pytest.raises(DamagedCheckpointError, match="step-3: holds the variables of another"):
        set_state(other, found.arrays, found.name)
    for key, value in state_arrays(other).items():
        assert value.tobytes() == before[key].tobytes()


def test_a_checkpoint_holds_no_pickle(small_data, tmp_path):
    Session(small_data, config("float32", "true", more="generator_average: 0.9"), 1, "gan").save(
        tmp_path, 3
    )
    with np.load(tmp_path / "checkpoints/step-3/state.npz", allow_pickle=False) as arrays:
        parts = {key.split("/")[0] for key in arrays.files}
        assert all(arrays[key].dtype != object for key in arrays.files)
    assert parts == {
        "generator",
        "generator_optimizer",
        "average",
        "discriminator",
        "discriminator_optimizer",
    }
