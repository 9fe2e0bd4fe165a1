"""The generator that a command names, found without Keras: a driver opens no GPU."""

from typing import NamedTuple

from data_pipeline.platform.errors import UserError
from data_pipeline.platform.hashing import sha256_hex
from data_pipeline.platform.storage import Storage, open_file, open_storage
from srgan.generator_scale import stored_scale
from srgan.run_layout import GENERATORS, generator_epoch, generator_key


class FoundGenerator(NamedTuple):
    """A generator's file.

    Attributes:
        uri: Where it is.
        name: For messages: `epoch 75`, or the file's name.
        sha256: Its sha256.
        scale: SR side over LR side.
    """

    uri: str
    name: str
    sha256: str
    scale: int


def find_generator(uri: str, epoch: int | str | None, *, is_run: bool) -> FoundGenerator:
    """Finds a generator, and reads its file.

    Args:
        uri: A RUN, or a generator's file.
        epoch: An epoch of RUN; `best` for the one of its best.json; None for the newest.
        is_run: Whether `uri` is a RUN.

    Raises:
        UserError: If there is no such generator, or its file is none.
    """
    if is_run:
        storage = open_storage(uri)
        number = _epoch(storage, epoch)
        key, name = generator_key(number), f"epoch {number}"
    else:
        storage, key = open_file(uri)
        name = key
    where = f"{storage.uri}/{key}"
    try:
        data = storage.read(key)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise UserError(f"{where}: no such file; pass a generator's .keras file") from error
    scale = stored_scale(data)
    if scale is None:
        raise UserError(f"{where}: is no generator that Keras can load; pass another one")
    return FoundGenerator(where, name, sha256_hex(data), scale)


def _epoch(run: Storage, epoch: int | str | None) -> int:
    keys = (item.key for item in run.list(GENERATORS))
    epochs = sorted(found for key in keys if (found := generator_epoch(key)) is not None)
    if not epochs:
        raise UserError(f"{run.uri}: holds no generator yet; pass another RUN, or train it")
    if epoch is None:
        return epochs[-1]
    if epoch not in epochs:
        raise UserError(f"{run.uri}: holds no generator of epoch {epoch}; it has {epochs}")
    return int(epoch)
