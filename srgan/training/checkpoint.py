"""TrainState <-> a checkpoint folder: arrays without pickle, and a checksum."""

import json
from pathlib import Path

import keras
import numpy as np
import numpy.typing as npt

from data_pipeline.manifest import file_sha256
from srgan.run_layout import CHECKPOINT_META
from srgan.training.step import TrainState

_ARRAYS = "state.npz"


class DamagedCheckpointError(Exception):
    """A checkpoint that is not what was written, or belongs to another network."""


def state_arrays(state: TrainState) -> dict[str, npt.NDArray[np.generic]]:
    """All variables by part and position: weights, BN statistics, optimizer slots, iteration."""
    return {
        f"{part}/{number:04}": np.asarray(keras.ops.convert_to_numpy(variable))
        for part, owner in state._asdict().items()
        if owner is not None
        for number, variable in enumerate(owner.variables)
    }


def write_checkpoint(folder: Path, state: TrainState, *, step: int) -> None:
    """Writes the state after `step` steps of the run into an existing folder."""
    arrays = folder / _ARRAYS
    np.savez(arrays, **state_arrays(state))  # type: ignore[arg-type]
    meta = {"step": step, "sha256": file_sha256(arrays)}
    (folder / CHECKPOINT_META).write_text(json.dumps(meta))


def checkpoint_step(folder: Path) -> int:
    """The number of the run's steps that a checkpoint was written after."""
    return int(json.loads((folder / CHECKPOINT_META).read_text())["step"])


def read_checkpoint(folder: Path, state: TrainState) -> None:
    """Sets the state's variables from a checkpoint.

    Raises:
        DamagedCheckpointError: Naming the file and what is wrong; the state is unchanged.
    """
    meta = json.loads((folder / CHECKPOINT_META).read_text())
    arrays = folder / _ARRAYS
    found = file_sha256(arrays)
    if found != meta["sha256"]:
        raise DamagedCheckpointError(f"{arrays}: expected sha256 {meta['sha256']}, found {found}")
    expected = state_arrays(state)
    with np.load(arrays, allow_pickle=False) as stored:
        loaded = {key: stored[key] for key in stored.files}
    if {key: value.shape for key, value in loaded.items()} != {
        key: value.shape for key, value in expected.items()
    }:
        raise DamagedCheckpointError(f"{arrays}: holds the variables of another network")
    for part, owner in state._asdict().items():
        if owner is not None:
            for number, variable in enumerate(owner.variables):
                variable.assign(loaded[f"{part}/{number:04}"])
