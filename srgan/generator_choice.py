"""Which generator a RUN, an epoch or a path names; found without Keras, for drivers open no GPU."""

import logging
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

from data_pipeline.platform.errors import UserError
from data_pipeline.platform.hashing import sha256_hex
from data_pipeline.platform.storage import Storage, open_file, open_storage
from srgan.best import read_best
from srgan.run_layout import CONFIG_KEY, GENERATORS, generator_epochs, generator_key

_SUFFIX = ".keras"

Epoch = int | Literal["best"] | None

_log = logging.getLogger(__name__)


class ChosenGenerator(NamedTuple):
    """A generator's file.

    Attributes:
        uri: Where it is.
        name: Its name without the suffix, as `epoch-0075`.
        sha256: Its sha256.
        data: Its bytes.
    """

    uri: str
    name: str
    sha256: str
    data: bytes


def choose_generator(uri: str, epoch: Epoch = None) -> ChosenGenerator:
    """Finds a generator and reads its file.

    Args:
        uri: A RUN or a `.keras` file; a local path or `s3://`.
        epoch: Of a RUN: its number, or "best" for that of `best.json`; None for the newest.

    Raises:
        UserError: If there is no such generator, or `best.json` is missing, damaged or of another
            file than the RUN has now.
    """
    if uri.endswith(_SUFFIX):
        if epoch is not None:
            raise UserError(f"{uri}: is a file, so an epoch makes no sense; leave the epoch out")
        return _read(*open_file(uri))
    if Path(uri).is_file():
        raise UserError(f"{uri}: is no {_SUFFIX} file; pass one, or a RUN")
    run = open_storage(uri)
    if epoch == "best":
        return _read_best(run)
    epochs = _epochs(run)
    if epoch is not None and epoch not in epochs:
        raise UserError(f"{run.uri}: holds no generator of epoch {epoch}; it has {epochs}")
    return _read(run, generator_key(epochs[-1] if epoch is None else epoch))


def _epochs(run: Storage) -> list[int]:
    """The epochs of RUN's last phase that have a generator, ascending. Refuses a RUN without."""
    keys = [item.key for item in run.list(GENERATORS)]
    if epochs := generator_epochs(keys):
        return epochs
    if keys:
        raise UserError(
            f"{run.uri}: no epoch of its last phase is finished yet; train on, or pass "
            f"{run.uri}/{sorted(keys)[0]}"
        )
    if run.size(CONFIG_KEY) is None:
        raise UserError(f"{run.uri}: lacks {CONFIG_KEY}; pass a RUN or a {_SUFFIX} file")
    raise UserError(f"{run.uri}: holds no generator yet; train on")


def _read_best(run: Storage) -> ChosenGenerator:
    best = read_best(run)
    again = f"run python -m jobs.evaluate --run {run.uri} --best-by {best.measure} again"
    found = _read(run, generator_key(best.epoch), sha256=best.sha256, fix=again)
    if later := sorted(set(_epochs(run)) - set(best.of_epochs)):
        _log.warning(
            "%s: best is epoch %d by %s; %s never compared; %s",
            run.uri,
            best.epoch,
            best.measure,
            f"epoch {later[0]} was"
            if len(later) == 1
            else f"epochs {', '.join(map(str, later))} were",
            again,
        )
    return found


def _read(storage: Storage, key: str, *, sha256: str = "", fix: str = "") -> ChosenGenerator:
    """Reads a file; `fix` says what to do if it has not the sha256 that is wanted."""
    where = f"{storage.uri}/{key}"
    try:
        data = storage.read(key)
    except FileNotFoundError as error:
        raise UserError(f"{where}: no such generator; {fix or 'look at the path'}") from error
    found = sha256_hex(data)
    if sha256 not in ("", found):
        raise UserError(f"{where}: was written anew since it was the best; {fix}")
    return ChosenGenerator(where, PurePosixPath(key).stem, found, data)
