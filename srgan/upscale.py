"""LR images -> SR images with a trained generator."""

import tempfile
from pathlib import Path

import keras
import numpy as np
import numpy.typing as npt

import srgan.networks  # noqa: F401  registers the layers that a saved generator holds
from data_pipeline.errors import UserError
from data_pipeline.storage import Storage

Image = npt.NDArray[np.uint8]


def super_resolve(generator: keras.Model, lr: Image) -> Image:
    """Upscales one image.

    Args:
        generator: From [1, h, w, 3] in [0, 1] to [1, H, W, 3] in [-1, 1].
        lr: uint8 [h, w, 3] RGB.

    Returns:
        uint8 [H, W, 3] RGB, rounded half up.
    """
    # As a graph, which frees what it has used, a DIV2K image takes a quarter of the memory; XLA,
    # Keras's choice on a GPU, would compile it for every size of image.
    generator.jit_compile = False
    sr = generator.predict_on_batch(lr[None].astype(np.float32) / 255)
    values = np.asarray(sr, np.float64)[0]
    levels: Image = np.clip(np.floor((values + 1) * 127.5 + 0.5), 0, 255).astype(np.uint8)
    return levels


def save_generator(generator: keras.Model, storage: Storage, key: str) -> None:
    """Writes a generator to RUN, whole or not at all."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "generator.keras")  # Keras asks for this suffix
        generator.save(file)
        storage.write(key, file.read_bytes())


def load_generator(storage: Storage, key: str) -> keras.Model:
    """Loads a generator in Keras's safe mode.

    Raises:
        UserError: If there is none, or it is damaged or no super-resolution generator.
    """
    where = f"{storage.uri}/{key}"
    if storage.size(key) is None:
        raise UserError(f"{where}: no such generator")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "generator.keras")
        file.write_bytes(storage.read(key))
        try:
            model = keras.saving.load_model(file, compile=False, safe_mode=True)
        except Exception as error:  # Keras raises many kinds for a damaged file
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"{where}: is no generator that Keras can load: {reason}") from error
    shapes = (getattr(model, "input_shape", None), getattr(model, "output_shape", None))
    if shapes != ((None, None, None, 3), (None, None, None, 3)):
        raise UserError(f"{where}: maps {shapes[0]} to {shapes[1]}, so it is no generator")
    return model


def load_weights(generator: keras.Model, storage: Storage, key: str, name: str) -> None:
    """Sets a generator's weights to those of a stored one, which errors call `name`.

    Raises:
        UserError: As `load_generator`, and if the stored one has another size.
    """
    weights = load_generator(storage, key).get_weights()
    if [value.shape for value in weights] != [value.shape for value in generator.get_weights()]:
        raise UserError(
            f"{name}: is a generator of another size than the configuration's; set "
            "generator.blocks, filters and batch_norm to its own, or pass another one"
        )
    generator.set_weights(weights)
