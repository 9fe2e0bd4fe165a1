"""A run's state <-> RUN/checkpoints: arrays without pickle, a checksum, the newest whole one."""

import hashlib
import io
import json
import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from data_pipeline.platform.hashing import file_sha256
from data_pipeline.platform.storage import Storage
from srgan.run_layout import CHECKPOINT_META, CHECKPOINTS
from srgan.training.errors import DamagedCheckpointError

_ARRAYS = "state.npz"
_RAY_STATE = f"{CHECKPOINTS}/checkpoint_manager_snapshot.json"

Arrays = Mapping[str, npt.NDArray[np.generic]]  # by part of the state and position in it

_log = logging.getLogger(__name__)


class Position(NamedTuple):
    """Where a run is, beside the arrays of its state.

    Attributes:
        step: The run's steps that are done.
        phase: The phase that made the last of them.
        phase_start: The run's step that this phase began with.
        learning_rate: Of the next step.
        skipped: Steps that were left out so far because something was not finite.
        epoch: Sums over the steps of an unfinished epoch, by name; empty at an epoch's end.
    """

    step: int
    phase: str
    phase_start: int
    learning_rate: float
    skipped: int
    epoch: dict[str, float]


class Checkpoint(NamedTuple):
    """A verified checkpoint: its name, the arrays of the state, and where the run was."""

    name: str
    arrays: Arrays
    position: Position


def write_checkpoint(
    run: Storage, name: str, arrays: Arrays, position: Position, *, config: str, seed: int
) -> None:
    """Writes a checkpoint. What tells its checksum comes last: without it there is none."""
    with run.stage(_key(name, _ARRAYS)) as path:
        with path.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        digest = file_sha256(path)
    meta = position._asdict() | {"sha256": digest, "seed": seed, "config": config}
    run.write(_key(name, CHECKPOINT_META), json.dumps(meta, indent=1).encode())


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
    found = hashlib.sha256(content).hexdigest()
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
    names = [name for name, _ in _metas(run)]
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
    """Where the run is, told without reading arrays; None before its first checkpoint."""
    return next((_position(meta) for _, meta in _metas(run) if meta), None)


def tidy_checkpoints(run: Storage, *, keep: int) -> None:
    """Mends what a killed process left in RUN/checkpoints. Only while no other one is at work.

    Ray Train's list of its checkpoints is dropped where it is cut off, or names one that is gone:
    it would refuse the run, which needs no list to go on. Checkpoints that are in no list are
    deleted, but for the newest `keep` and the newest whole one.
    """
    names = [name for name, _ in _metas(run)]
    listed = _listed_by_ray(run)
    if listed is None or not listed <= set(names):
        _log.warning("%s/%s: is damaged or outdated, made anew", run.uri, _RAY_STATE)
        run.delete(_RAY_STATE)
        listed = set()
    kept = listed | set(names[:keep])
    unlisted = [
        found.key
        for found in run.list(f"{CHECKPOINTS}/")
        if found.key != _RAY_STATE and found.key.split("/")[1] not in kept
    ]
    newest = newest_checkpoint(run) if unlisted and names else None
    for key in unlisted:
        if not newest or key.split("/")[1] != newest.name:
            run.delete(key)


def _listed_by_ray(run: Storage) -> set[str] | None:
    """The checkpoints in Ray Train's list; None where it is damaged."""
    if run.size(_RAY_STATE) is None:
        return set()
    try:
        results = json.loads(run.read(_RAY_STATE))["checkpoint_results"]
        return {result["checkpoint_dir_name"] for result in results}
    except (ValueError, KeyError):
        return None


def _metas(run: Storage) -> list[tuple[str, dict[str, Any] | None]]:
    """The run's checkpoints and what describes them, if it reads; latest step first."""
    found: list[tuple[str, dict[str, Any] | None]] = []
    for item in run.list(f"{CHECKPOINTS}/"):
        if item.key.endswith(f"/{CHECKPOINT_META}"):
            name = item.key.split("/")[1]
            try:
                found.append((name, _read_meta(run, name)))
            except DamagedCheckpointError:
                found.append((name, None))
    return sorted(found, key=lambda one: (one[1]["step"] if one[1] else -1, one[0]), reverse=True)


def _key(name: str, file: str) -> str:
    return f"{CHECKPOINTS}/{name}/{file}"


def _position(meta: dict[str, Any]) -> Position:
    return Position(**{field: meta[field] for field in Position._fields})


def _read_meta(run: Storage, name: str) -> dict[str, Any]:
    try:
        meta: dict[str, Any] = json.loads(run.read(_key(name, CHECKPOINT_META)))
        _position(meta)
    except (ValueError, KeyError, FileNotFoundError) as error:
        where = f"{run.uri}/{_key(name, CHECKPOINT_META)}"
        raise DamagedCheckpointError(f"{where}: is not what was written") from error
    return meta
