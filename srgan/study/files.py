"""A study's files: the key, and the ratings that a server stored or raters sent as files."""

import fcntl
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from data_pipeline.platform.errors import UserError
from data_pipeline.platform.hashing import sha256_hex
from data_pipeline.platform.storage import LocalStorage
from srgan.study.records import Key, Rating, Stimulus, Trial
from srgan.study.store import RATINGS_FILE, stored_ratings

KEY_FILE = "key.json"
STIMULI = "stimuli/"
LONGEST_ANSWER = 3_600_000  # milliseconds

_FORMAT = 1
_LARGEST_FILE = 4 << 20
_PSEUDONYM = re.compile(r"[0-9a-f]{16}")


def study_folder(text: str) -> Path:
    """The folder that a user names as STUDY.

    Raises:
        UserError: If it is no local folder: SQLite stores ratings durably on a disk alone.
    """
    if not text or "://" in text:
        raise UserError(
            f"{text!r}: a study is a local folder, as its ratings need a disk; pass one"
        )
    return Path(text).expanduser().absolute()


@contextmanager
def whole_folder(study: Path) -> Iterator[Path]:
    """A folder that becomes STUDY when the block ends, and is removed if the block fails.

    What an earlier, killed process left of its own is removed.

    Raises:
        UserError: If STUDY is there and holds something.
    """
    if study.exists() and (not study.is_dir() or any(study.iterdir())):
        raise UserError(f"{study}: is there already and is no study; pass another --out")
    study.parent.mkdir(parents=True, exist_ok=True)
    prefix, suffix = f".{study.name}.", ".partial"
    for left in study.parent.glob(f"{prefix}*{suffix}"):
        with _locked(left) as is_ours:
            if is_ours:
                shutil.rmtree(left)
    folder = Path(tempfile.mkdtemp(suffix, prefix, study.parent))
    try:
        with _locked(folder):
            yield folder
            folder.chmod(0o755)
            folder.replace(study)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


@contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Whether no living process holds the folder; the kernel drops a lock with its process."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        is_ours = False
        with suppress(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_ours = True
        yield is_ours
    finally:
        os.close(handle)


def stimulus_key(name: str) -> str:
    """A stimulus's file in STUDY."""
    return f"{STIMULI}{name}.png"


def write_key(study: Path, key: Key) -> None:
    """Writes a study's key, whole or not at all."""
    stored = {
        "format": _FORMAT,
        "mode": key.mode,
        "evaluation": key.evaluation,
        "epoch": key.epoch,
        "generators": key.generators,
        "stimuli": [one._asdict() for one in key.stimuli.values()],
        "plans": [[trial._asdict() for trial in plan] for plan in key.plans],
    }
    LocalStorage(study).write(KEY_FILE, json.dumps(stored, indent=1).encode())


def read_key(study: Path) -> Key:
    """Reads a study's key.

    Raises:
        UserError: If there is no study, or its key is damaged or of another version.
    """
    data = _key_bytes(study)
    try:
        stored = json.loads(data)
        if stored["format"] != _FORMAT:
            raise UserError(
                f"{study / KEY_FILE}: has format {stored['format']}, this version reads {_FORMAT}; "
                "use the version that made the study"
            )
        stimuli = [
            Stimulus(**one | {"crop": tuple(one["crop"])})
            for one in stored["stimuli"]  # lists were tuples
        ]
        return Key(
            stored["mode"],
            stored["evaluation"],
            stored["epoch"],
            stored["generators"],
            {one.name: one for one in stimuli},
            [[_trial(trial) for trial in plan] for plan in stored["plans"]],
        )
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{study / KEY_FILE}: is damaged; make the study anew") from error


def study_id(study: Path) -> str:
    """What tells this study from others. It tells raters nothing: the key holds random names."""
    return sha256_hex(_key_bytes(study))[:16]


def read_ratings(study: Path, exported: Sequence[Path]) -> list[Rating]:
    """All ratings: those that the server stored, and those of raters' files.

    A rating that comes from both, or from several files, counts once.

    Args:
        study: STUDY.
        exported: JSON files that the page saved for raters without a connection.

    Returns:
        Sorted by rater and trial.

    Raises:
        UserError: If a file is missing, damaged or of another study, or two answers of a rater to
            one trial, or a rater's plans, differ.
    """
    key, identity = read_key(study), study_id(study)
    sources = [(study / RATINGS_FILE, stored_ratings(study, identity))]
    sources += [(path, _read_exported(path, identity)) for path in exported]
    found: dict[tuple[str, int], Rating] = {}
    plans: dict[str, int] = {}
    for path, ratings in sources:
        for rating in ratings:
            if not is_valid(key, rating):
                raise UserError(
                    f"{path}: the rating of trial {rating.trial} by {rating.rater} does not fit "
                    "the study's plan; leave the file out"
                )
            if plans.setdefault(rating.rater, rating.plan) != rating.plan:
                raise UserError(
                    f"{path}: {rating.rater} has plan {rating.plan}, and elsewhere "
                    f"{plans[rating.rater]}; leave the file out"
                )
            first = found.setdefault((rating.rater, rating.trial), rating)
            if first.answer != rating.answer:
                raise UserError(
                    f"{path}: {rating.rater} answers trial {rating.trial} with {rating.answer}, "
                    f"and elsewhere with {first.answer}; leave the file out"
                )
    return sorted(found.values())


def is_valid(key: Key, rating: Rating) -> bool:
    """Whether a plan has such a trial, and the trial takes such an answer."""
    answers = range(1, 6) if key.mode == "acr" else range(2)
    return (
        0 <= rating.plan < len(key.plans)
        and 0 <= rating.trial < len(key.plans[rating.plan])
        and rating.answer in answers
        and 0 <= rating.milliseconds <= LONGEST_ANSWER
    )


def _trial(stored: dict[str, Any]) -> Trial:
    return Trial(**stored | {name: tuple(stored[name]) for name in ("stimuli", "expected")})


def _key_bytes(study: Path) -> bytes:
    try:
        return (study / KEY_FILE).read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(f"{study}: is no study; make one with jobs.study make") from error


def _read_exported(path: Path, identity: str) -> list[Rating]:
    """A rater's file. Types are checked here; the plan's limits by `is_valid`."""
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise UserError(f"{path}: is too large for a file of ratings; leave it out")
        stored = json.loads(path.read_bytes())
        if stored["study"] != identity:
            raise UserError(f"{path}: holds ratings of another study; leave it out")
        if not _PSEUDONYM.fullmatch(stored["rater"]):
            raise ValueError(stored["rater"])
        rows = [
            (stored["plan"], one["trial"], one["answer"], one["milliseconds"])
            for one in stored["ratings"]
        ]
    except OSError as error:
        raise UserError(f"{path}: does not read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path}: is no file of ratings, or is damaged; leave it out") from error
    if not all(type(number) is int for row in rows for number in row):
        raise UserError(f"{path}: is no file of ratings, or is damaged; leave it out")
    return [Rating(stored["rater"], *row) for row in rows]
