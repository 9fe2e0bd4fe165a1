"""A run's state <-> RUN/checkpoints: arrays without pickle, a checksum, the newest whole one.

Only the first worker of the trainer that holds the run writes and deletes here.
"""

import io
import json
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from data_pipeline.platform.hashing import sha256_hex
from data_pipeline.platform.storage import Storage
from srgan.run_layout import CHECKPOINT_META, CHECKPOINTS
from srgan.training.failures import DamagedCheckpointError

_ARRAYS = "state.npz"

Arrays = Mapping[str, npt.NDArray[np.generic]]  # by part of the state and position in it

_log = logging.getLogger(__name__)


class Position(NamedTuple):
    """Where a run is, beside the arrays of its state.

    Attributes:
        step: The run's steps that are done.
        phase: The phase that made the last of them.
        phase_start: The run's step that this phase began with.
        skipped: Steps that were left out so far because something was not finite.
        epoch: Sums over the steps of an unfinished epoch, by name; empty at an epoch's end.
    """

    step: int
    phase: str
    phase_start: int
    skipped: int
    epoch: dict[str, float]


class Checkpoint(NamedTuple):
    """A verified checkpoint: its name, the arrays of the state, and where the run was."""

    name: str
    arrays: Arrays
    position: Position


def write_checkpoint(run: Storage, arrays: Arrays, position: Position) -> str:
    """Writes a checkpoint; returns its name, which begins with the step.

    The JSON with the checksum is written last; without it the checkpoint does not exist.
    """
    name = f"{position.step:09}-{time.time_ns()}"
    with run.stage(_key(name, _ARRAYS)) as staged:
        with staged.path.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        meta = position._asdict() | {"sha256": staged.sha256}
    run.write(_key(name, CHECKPOINT_META), json.dumps(meta, indent=1).encode())
    return name


def read_checkpoint(run: Storage, name: str) -> Checkpoint:
    """A checkpoint's content, verified.

    Raises:
        DamagedCheckpointError: Naming the file and what is wrong.
    """
    where = f"{run.uri}/{_key(name, _ARRAYS)}"
    meta = _read_meta(run, name)
    try:
        content = run.read(_key(name, _ARRAYS))
    except FileNotFoundError as error:
        raise DamagedCheckpointError(f"{where}: is missing") from error
    found = sha256_hex(content)
    if found != meta["sha256"]:
        raise DamagedCheckpointError(f"{where}: expected sha256 {meta['sha256']}, found {found}")
    with np.load(io.BytesIO(content), allow_pickle=False) as stored:
        arrays = {key: stored[key] for key in stored.files}
    return Checkpoint(name, arrays, _position(meta))


def newest_checkpoint(run: Storage) -> Checkpoint | None:
    """The whole checkpoint of the latest step; a damaged one is named in the log and passed over.

    Raises:
        DamagedCheckpointError: If there are checkpoints, and all of them are damaged.
    """
    names = _names(_keys(run))
    for name in names:
        try:
            return read_checkpoint(run, name)
        except DamagedCheckpointError as error:
            _log.warning("%s; the checkpoint before it is taken", error)
    if names:
        raise DamagedCheckpointError(
            f"{run.uri}/{CHECKPOINTS}: every checkpoint is damaged; put a copy back, or choose "
            "another --run"
        )
    return None


def newest_position(run: Storage) -> Position | None:
    """Where the run is, without reading arrays; None before its first checkpoint."""
    for name in _names(_keys(run)):
        try:
            return _position(_read_meta(run, name))
        except DamagedCheckpointError:
            continue
    return None


def prune_checkpoints(run: Storage, *, newest: str, keep: int) -> None:
    """Deletes all checkpoints but the last `keep` up to `newest`, and parts of unfinished ones.

    Checkpoints of later steps than `newest` are damaged ones that the run did not go on from.

    Args:
        run: RUN.
        newest: The name of the checkpoint that was just written.
        keep: How many stay, 1 or more.
    """
    keys = _keys(run)
    kept = [name for name in _names(keys) if name <= newest][:keep]
    others = [key for key in keys if key.split("/")[1] not in kept]
    # The JSON first: a kill in between leaves no checkpoint without its arrays.
    for key in sorted(others, key=lambda key: not key.endswith(f"/{CHECKPOINT_META}")):
        run.delete(key)


def _keys(run: Storage) -> list[str]:
    return [item.key for item in run.list(f"{CHECKPOINTS}/")]


def _names(keys: Sequence[str]) -> list[str]:
    """The checkpoints that exist, damaged ones too; the latest step first."""
    parts = (key.split("/") for key in keys)
    return sorted((part[1] for part in parts if part[2:] == [CHECKPOINT_META]), reverse=True)


def _key(name: str, file: str) -> str:
    return f"{CHECKPOINTS}/{name}/{file}"


def _position(meta: dict[str, Any]) -> Position:
    return Position(**{field: meta[field] for field in Position._fields})


def _read_meta(run: Storage, name: str) -> dict[str, Any]:
    try:
        meta: dict[str, Any] = json.loads(run.read(_key(name, CHECKPOINT_META)))
        _position(meta)
    except (ValueError, KeyError, TypeError, FileNotFoundError) as error:
        where = f"{run.uri}/{_key(name, CHECKPOINT_META)}"
        raise DamagedCheckpointError(f"{where}: is not what was written") from error
    return meta
