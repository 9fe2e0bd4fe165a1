"""A trained generator of a RUN, or of a file, ready to upscale."""

import logging
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

import keras
import numpy as np

from data_pipeline.images import Image
from data_pipeline.platform.errors import UserError
from data_pipeline.platform.hashing import sha256_hex
from data_pipeline.platform.storage import Storage, open_file, open_storage
from srgan.best import read_best
from srgan.generator_file import parse_generator
from srgan.networks import scale_of
from srgan.run_layout import CONFIG_KEY, GENERATORS, generator_epoch, generator_key
from srgan.upscale import super_resolve

_SUFFIX = ".keras"

_log = logging.getLogger(__name__)


class TrainedGenerator(NamedTuple):
    """A generator that computes in float32, whatever it was trained in.

    Attributes:
        model: Maps float32 [N, h, w, 3] in [0, 1] to [N, h * scale, w * scale, 3] in [-1, 1].
        scale: HR side over LR side.
        name: Its file's name without the suffix, as `epoch-0075`.
        sha256: Its file's sha256.
    """

    model: keras.Model
    scale: int
    name: str
    sha256: str

    def upscale(self, rgb: Image) -> Image:
        """Upscales one picture; a large one in tiles, with the same result.

        Args:
            rgb: uint8 [h, w, 3] RGB.

        Returns:
            uint8 [h * scale, w * scale, 3] RGB.

        Raises:
            ValueError: If it is no such array.
            UserError: As `srgan.upscale.super_resolve`.
        """
        array = np.asarray(rgb)
        if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or 0 in array.shape:
            raise ValueError(f"expected uint8 [h, w, 3] RGB, got {array.dtype} {array.shape}")
        return super_resolve(self.model, array)


def open_generator(uri: str, epoch: int | Literal["best"] | None = None) -> TrainedGenerator:
    """Opens a generator.

    Args:
        uri: A RUN or a `.keras` file; a local path or `s3://`.
        epoch: Of a RUN: its number, or "best" for that of `best.json`; None for the newest.

    Raises:
        UserError: If there is no such generator, it is damaged, or `best.json` is missing, damaged
            or of another file than the RUN has now.
    """
    if uri.endswith(_SUFFIX):
        if epoch is not None:
            raise UserError(f"{uri}: is a file, so an epoch makes no sense; leave the epoch out")
        return _open(*open_file(uri))
    if Path(uri).is_file():
        raise UserError(f"{uri}: is no {_SUFFIX} file; pass one, or a RUN")
    run = open_storage(uri)
    if epoch == "best":
        return _open_best(run)
    epochs = _epochs(run)
    if epoch is not None and epoch not in epochs:
        raise UserError(f"{run.uri}: holds no generator of epoch {epoch}; it has {epochs}")
    return _open(run, generator_key(epochs[-1] if epoch is None else epoch))


def _epochs(run: Storage) -> list[int]:
    """The epochs of RUN's last phase that have a generator, ascending. Refuses a RUN without."""
    keys = [item.key for item in run.list(GENERATORS)]
    epochs = sorted(epoch for key in keys if (epoch := generator_epoch(key)) is not None)
    if epochs:
        return epochs
    if keys:
        raise UserError(
            f"{run.uri}: no epoch of its last phase is finished yet; train on, or pass "
            f"{run.uri}/{sorted(keys)[0]}"
        )
    if run.size(CONFIG_KEY) is None:
        raise UserError(f"{run.uri}: lacks {CONFIG_KEY}; pass a RUN or a {_SUFFIX} file")
    raise UserError(f"{run.uri}: holds no generator yet; train on")


def _open_best(run: Storage) -> TrainedGenerator:
    best = read_best(run)
    again = f"run python -m jobs.evaluate --run {run.uri} --best-by {best.measure} again"
    found = _open(run, generator_key(best.epoch), sha256=best.sha256, fix=again)
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


def _open(storage: Storage, key: str, *, sha256: str = "", fix: str = "") -> TrainedGenerator:
    """Opens a file; `fix` says what to do if it has not the sha256 that is wanted."""
    where = f"{storage.uri}/{key}"
    try:
        data = storage.read(key)
    except FileNotFoundError as error:
        raise UserError(f"{where}: no such generator; {fix or 'look at the path'}") from error
    found = sha256_hex(data)
    if sha256 not in ("", found):
        raise UserError(f"{where}: was written anew since it was the best; {fix}")
    model = _in_float32(parse_generator(data, where))
    if (scale := scale_of(model)) < 2:
        raise UserError(f"{where}: does not enlarge; pass a generator that jobs.train wrote")
    return TrainedGenerator(model, scale, PurePosixPath(key).stem, found)


def _in_float32(model: keras.Model) -> keras.Model:
    """The same network in float32, as an evaluation builds it: bfloat16 has too few levels."""
    if all(layer.dtype_policy.compute_dtype == "float32" for layer in model.layers):
        return model
    exact = keras.models.clone_model(
        model,
        clone_function=lambda layer: type(layer).from_config(
            layer.get_config() | {"dtype": "float32"}
        ),
    )
    exact.set_weights(model.get_weights())
    return exact
