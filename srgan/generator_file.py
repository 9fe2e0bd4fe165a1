"""Generators as files of a RUN: written, loaded and compared with a network."""

import tempfile
from pathlib import Path

import keras

from data_pipeline.platform.errors import UserError
from data_pipeline.platform.hashing import sha256_hex
from data_pipeline.platform.storage import Storage
from srgan.networks import BilinearUpscaling, scale_of  # the module registers a file's layers

_FILE = "generator.keras"  # Keras requires this suffix


def save_generator(generator: keras.Model, storage: Storage, key: str) -> None:
    """Writes a generator to RUN, whole or not at all."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, _FILE)
        generator.save(file)
        storage.write(key, file.read_bytes())


def read_generator(storage: Storage, key: str, *, sha256: str | None = None) -> keras.Model:
    """Loads a generator in Keras's safe mode.

    Args:
        storage: Where the file is.
        key: The file's key there.
        sha256: The sha256 that the file must have; None accepts any.

    Raises:
        UserError: If there is no such file, its sha256 is another one, it is damaged, or it does
            not map RGB images to RGB images.
    """
    where = f"{storage.uri}/{key}"
    try:
        data = storage.read(key)
    except FileNotFoundError as error:
        raise UserError(f"{where}: no such generator") from error
    if sha256 not in (None, sha256_hex(data)):
        raise UserError(f"{where}: was written anew meanwhile; run the same command again")
    return parse_generator(data, where)


def parse_generator(data: bytes, where: str) -> keras.Model:
    """Loads a generator from the bytes of its file, in Keras's safe mode.

    Raises:
        UserError: If they are damaged, or it does not map RGB images to RGB images. The message
            calls the file `where`.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, _FILE)
        file.write_bytes(data)
        try:
            model = keras.saving.load_model(file, compile=False, safe_mode=True)
        except Exception as error:  # Keras raises many kinds for a damaged file
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"{where}: is no generator that Keras can load: {reason}") from error
    shapes = (getattr(model, "input_shape", None), getattr(model, "output_shape", None))
    if shapes != ((None, None, None, 3), (None, None, None, 3)):
        raise UserError(f"{where}: maps {shapes[0]} to {shapes[1]}, so it is no generator")
    return model


def architecture(network: keras.Model) -> list[tuple[str, list[tuple[int, ...]]]]:
    """Every layer's kind and the shapes of its weights; equal for networks of one architecture."""
    return [
        (type(layer).__name__, [tuple(weight.shape) for weight in layer.weights])
        for layer in network.layers
    ]


def load_weights(generator: keras.Model, storage: Storage, key: str, name: str) -> None:
    """Sets a generator's weights to those of a stored one; error messages call it `name`.

    Raises:
        UserError: As `read_generator`, and if the stored generator has another scale, size or form.
    """
    stored = read_generator(storage, key)
    if (scale := scale_of(stored)) != scale_of(generator):
        raise UserError(
            f"{name}: is a generator of x{scale}, and the data set has x{scale_of(generator)}; "
            "pass another one"
        )
    if _form(stored) != _form(generator):
        raise UserError(
            f"{name}: is a generator of another size or form than the configuration's; set "
            "generator.blocks, filters, batch_norm, direct_upsampling and global_skip to its own, "
            "or pass another one"
        )
    generator.set_weights(stored.get_weights())


def _form(generator: keras.Model) -> tuple[bool, list[tuple[int, ...]]]:
    """Whether it has a global skip, and the shapes of its weights."""
    skip = any(isinstance(layer, BilinearUpscaling) for layer in generator.layers)
    return skip, [tuple(weight.shape) for weight in generator.weights]
