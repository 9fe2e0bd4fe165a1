"""A trained generator of a RUN, or of a file, ready to upscale."""

from typing import NamedTuple

import keras
import numpy as np

from data_pipeline.images import Image
from data_pipeline.platform.errors import UserError
from srgan.generator_choice import Epoch, choose_generator
from srgan.generator_file import parse_generator
from srgan.networks import scale_of
from srgan.upscale import super_resolve


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


def open_generator(uri: str, epoch: Epoch = None) -> TrainedGenerator:
    """Opens a generator.

    Args:
        uri: See `choose_generator`.
        epoch: Likewise.

    Raises:
        UserError: As `choose_generator`, and if the file is damaged or no generator.
    """
    file = choose_generator(uri, epoch)
    model = _in_float32(parse_generator(file.data, file.uri))
    if (scale := scale_of(model)) < 2:
        raise UserError(f"{file.uri}: does not enlarge; pass a generator that jobs.train wrote")
    return TrainedGenerator(model, scale, file.name, file.sha256)


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
