"""LR images -> SR images with a trained generator."""

import math
import tempfile
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import numpy.typing as npt

from data_pipeline.images import Image
from data_pipeline.platform.errors import UserError
from data_pipeline.platform.hashing import sha256_hex
from data_pipeline.platform.storage import Storage
from srgan.networks import PixelShuffle  # also registers the layers that a saved generator holds

Floats = npt.NDArray[np.float32]

_TRUNK_TILE, _TAIL_TILE = 768, 128  # LR pixels a side

_POINTWISE = (
    keras.layers.InputLayer,
    keras.layers.Add,
    keras.layers.PReLU,
    keras.layers.BatchNormalization,
    keras.layers.Activation,
)


def super_resolve(generator: keras.Model, lr: Image) -> Image:
    """Upscales one image; a large one in tiles, so that the memory is bounded.

    Most of the memory is spent behind the first sub-pixel stage, which sees few pixels: its tiles
    are small and overlap little. The residual blocks before it see far, and run on large tiles.
    Tiles overlap by what they see, and batch normalisation uses its moving statistics, so tiles
    equal the whole image but for the rounding of sums: by at most one level, in very few values.

    Args:
        generator: From [1, h, w, 3] in [0, 1] to [1, H, W, 3] in [-1, 1].
        lr: uint8 [h, w, 3] RGB.

    Returns:
        uint8 [H, W, 3] RGB, rounded half up.

    Raises:
        UserError: If the generator makes values that are not finite, or the image is large and
            the network is none of `srgan.networks`.
    """
    pixels = lr.astype(np.float32) / 255
    if max(lr.shape[:2]) <= _TAIL_TILE:
        return _levels(_predict(generator, pixels))
    parts = _split(generator)

    def upscale(window: Any) -> Image:
        features = _predict(parts.trunk, window)
        return in_tiles(
            lambda part: _levels(_predict(parts.tail, part)),
            features,
            halo=parts.tail_radius,
            side=_TAIL_TILE,
        )

    halo = parts.trunk_radius + parts.tail_radius
    return in_tiles(upscale, pixels, halo=halo, side=_TRUNK_TILE)


def in_tiles(function: Callable[[Any], Image], image: Any, *, halo: int, side: int) -> Image:
    """Applies a function to overlapping windows of an image and joins what it makes of them.

    Args:
        function: From [h, w, C] to [h * scale, w * scale, D]; a pixel of its result depends on
            pixels of the window that are at most `halo` away.
        image: [H, W, C].
        halo: In pixels of the image.
        side: Of the largest window; no less than four halos are taken.

    Returns:
        [H * scale, W * scale, D]: as of the whole image.
    """
    height, width = image.shape[:2]
    rows = []
    for top, bottom, kept_rows in _windows(height, halo, side):
        row = []
        for left, right, kept_columns in _windows(width, halo, side):
            tile = function(image[top:bottom, left:right])
            scale = tile.shape[0] // (bottom - top)
            inside = (
                slice(scale * (kept[0] - start), scale * (kept[1] - start))
                for kept, start in ((kept_rows, top), (kept_columns, left))
            )
            row.append(tile[tuple(inside)])
        rows.append(np.concatenate(row, axis=1))
    return np.concatenate(rows)


def _windows(length: int, halo: int, side: int) -> Iterator[tuple[int, int, tuple[int, int]]]:
    """Start and end of as few windows as can be, all of one size, and the part that each fills.

    They overlap by two halos at least, so that none is used nearer to its cut than a halo.
    """
    most = max(side, 4 * halo)
    if length <= most:
        yield 0, length, (0, length)
        return
    count = math.ceil((length - 2 * halo) / (most - 2 * halo))
    size = math.ceil((length + 2 * halo * (count - 1)) / count)
    starts = [number * (length - size) // (count - 1) for number in range(count)]
    cuts = [(start + size + after) // 2 for start, after in pairwise(starts)]
    for start, kept in zip(starts, pairwise([0, *cuts, length]), strict=True):
        yield start, start + size, kept


class _Parts(NamedTuple):
    """A generator in two: up to the first sub-pixel stage, and from there.

    The radii say how far each part sees, in LR pixels.
    """

    trunk: keras.Model
    tail: keras.Model
    trunk_radius: int
    tail_radius: int


@lru_cache(maxsize=1)
def _split(generator: keras.Model) -> _Parts:
    radii, sizes = [0.0], [1]
    for layer in generator.layers:
        if isinstance(layer, keras.layers.Conv2D):
            radii.append(radii[-1] + max(layer.kernel_size) // 2 / sizes[-1])
            last_convolution, before = layer, radii[-2]
        elif isinstance(layer, PixelShuffle):
            if sizes[-1] == 1:
                cut, trunk_radius = last_convolution.input, before
            sizes.append(2 * sizes[-1])
        elif not isinstance(layer, _POINTWISE):
            kind = type(layer).__name__
            raise UserError(f"{generator.name}: has a layer {kind}: cannot upscale a large image")
    return _Parts(
        keras.Model(generator.input, cut),
        keras.Model(cut, generator.output),
        math.ceil(trunk_radius),
        math.ceil(radii[-1] - trunk_radius),
    )


def _predict(network: keras.Model, image: Any) -> Floats:
    # As a graph, which frees what it has used, an image takes a quarter of the memory; XLA,
    # Keras's choice on a GPU, would compile it for every size of image.
    network.jit_compile = False
    return np.asarray(network.predict_on_batch(image[None])[0])


def _levels(sr: Floats) -> Image:
    """[-1, 1] -> uint8."""
    if not np.isfinite(sr).all():
        raise UserError("the generator makes values that are not finite; take another epoch's")
    levels: Image = np.clip(np.floor((sr + 1) * 127.5 + 0.5), 0, 255).astype(np.uint8)
    return levels


def save_generator(generator: keras.Model, storage: Storage, key: str) -> None:
    """Writes a generator to RUN, whole or not at all."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "generator.keras")  # Keras asks for this suffix
        generator.save(file)
        storage.write(key, file.read_bytes())


def load_generator(storage: Storage, key: str, *, sha256: str | None = None) -> keras.Model:
    """Loads a generator in Keras's safe mode.

    Args:
        storage: Where it is.
        key: Its key there.
        sha256: Of the file that is expected, if one is.

    Raises:
        UserError: If there is none, or it is damaged, another one or no super-resolution
            generator.
    """
    where = f"{storage.uri}/{key}"
    if storage.size(key) is None:
        raise UserError(f"{where}: no such generator")
    data = storage.read(key)
    if sha256 not in (None, sha256_hex(data)):
        raise UserError(f"{where}: was written anew meanwhile; run the same command again")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "generator.keras")
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
    """What tells networks apart: every layer's kind and the shapes of its weights."""
    return [
        (type(layer).__name__, [tuple(weight.shape) for weight in layer.weights])
        for layer in network.layers
    ]


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
