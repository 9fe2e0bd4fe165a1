"""LR images -> SR images with a trained generator."""

import math
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import keras
import numpy as np
import numpy.typing as npt

from data_pipeline.images import Image
from data_pipeline.platform.errors import UserError
from srgan.networks import BilinearUpscaling, PixelShuffle, scale_of

Floats = npt.NDArray[np.float32]

_TRUNK_TILE = 768  # LR pixels a side
_TAIL_TILE = 512  # HR pixels a side: they determine the memory, whatever the scale

_POINTWISE = (
    keras.layers.InputLayer,
    keras.layers.Add,
    keras.layers.PReLU,
    keras.layers.BatchNormalization,
    keras.layers.Activation,
    keras.layers.Rescaling,
    BilinearUpscaling,  # one LR pixel, as far as the first sub-pixel stage
)


def super_resolve(generator: keras.Model, lr: Image) -> Image:
    """Upscales one image; a large image in tiles, so that the memory is bounded.

    The layers from the first sub-pixel stage on take most of the memory, and their receptive field
    is small: they run on small tiles that overlap little. The residual blocks before it have a
    large receptive field and run on large tiles. Tiles overlap by the receptive field, and batch
    normalisation uses its moving statistics. So tiles give the same SR as the whole image, except
    for the rounding of sums: very few values differ, by one level at most.

    Args:
        generator: Maps float [1, h, w, 3] in [0, 1] to [1, H, W, 3] in [-1, 1].
        lr: uint8 [h, w, 3] RGB.

    Returns:
        uint8 [H, W, 3] RGB, rounded half up.

    Raises:
        UserError: If the generator makes values that are not finite, or the image is large and
            the network has layers that `srgan.networks` does not use.
    """
    pixels = lr.astype(np.float32) / 255
    tail_tile = _TAIL_TILE // scale_of(generator)
    if max(lr.shape[:2]) <= tail_tile:
        return _levels(_predict(generator, pixels))
    parts = _split(generator)

    def upscale(window: Any) -> Image:
        return in_tiles(
            lambda part: _levels(_predict(parts.tail, part[..., :-3], part[..., -3:])),
            np.concatenate([_predict(parts.trunk, window), window], axis=-1),
            halo=parts.tail_radius,
            side=tail_tile,
        )

    halo = parts.trunk_radius + parts.tail_radius
    return in_tiles(upscale, pixels, halo=halo, side=_TRUNK_TILE)


def in_tiles(function: Callable[[Any], Image], image: Any, *, halo: int, side: int) -> Image:
    """Applies a function to overlapping windows of an image and joins the results.

    Args:
        function: Maps [h, w, C] to [h * scale, w * scale, D]. A pixel of the result depends only
            on pixels of the window that are at most `halo` away.
        image: [H, W, C].
        halo: In pixels of the image.
        side: Largest side of a window, in pixels; at least four halos are used.

    Returns:
        [H * scale, W * scale, D], equal to `function(image)`.
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
    """Start and end of each window, and the part of the result that it fills.

    There are as few windows as possible, all of one size. They overlap by at least two halos, so
    the part that a window fills is at least a halo away from where the window cuts the image.
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
    """A generator in two parts: up to the first sub-pixel stage, and from there on.

    The second one takes the features of the first, and LR, which a global skip needs.
    The radii are those of the parts' receptive fields, in LR pixels.
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
            sizes.append(layer.factor * sizes[-1])
        elif not isinstance(layer, _POINTWISE):
            kind = type(layer).__name__
            raise UserError(f"{generator.name}: has a layer {kind}: cannot upscale a large image")
    return _Parts(
        keras.Model(generator.input, cut),
        keras.Model([cut, generator.input], generator.output),
        math.ceil(trunk_radius),
        math.ceil(radii[-1] - trunk_radius),
    )


def _predict(network: keras.Model, *inputs: Any) -> Floats:
    # A graph frees what it has used: it takes a quarter of the memory. XLA, which Keras chooses
    # on a GPU, would compile again for every image size.
    network.jit_compile = False
    batch = [one[None] for one in inputs]
    return np.asarray(network.predict_on_batch(batch if len(batch) > 1 else batch[0])[0])


def _levels(sr: Floats) -> Image:
    """SR in [-1, 1] -> uint8, rounded half up."""
    if not np.isfinite(sr).all():
        raise UserError("the generator makes values that are not finite; take another epoch's")
    levels: Image = np.clip(np.floor((sr + 1) * 127.5 + 0.5), 0, 255).astype(np.uint8)
    return levels
