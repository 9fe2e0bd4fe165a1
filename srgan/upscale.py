"""LR images -> SR images with a trained generator."""

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import keras
import numpy as np
import numpy.typing as npt

from data_pipeline.images import Image
from data_pipeline.platform.errors import UserError
from srgan.colour_fix import HALO, with_lows_of
from srgan.ensemble import eightfold
from srgan.networks import BilinearUpscaling, PixelShuffle, scale_of
from srgan.tiles import bands_in_tiles, in_tiles, joined

Floats = npt.NDArray[np.float32]
Levels = npt.NDArray[np.uint8 | np.uint16]

_TRUNK_TILE = 768  # LR pixels a side
_TAIL_TILE = 512  # HR pixels a side: they determine the memory, whatever the scale
_BAND_BYTES = 200 << 20  # of a band, where the picture is so wide that it would take more

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
    height, width = lr.shape[:2]
    return joined(bands(generator, lr), width, height)


def bands(
    generator: keras.Model, lr: Levels, *, self_ensemble: bool = False, colour_fix: bool = False
) -> Iterator[Levels]:
    """As `super_resolve`, in bands of rows from the top down: SR is never whole in memory.

    A band has at most 3,072 rows at x4, and fewer where the image is so wide that it would take
    more than 200 MiB.

    Args:
        generator: As for `super_resolve`.
        lr: uint8 or uint16 [h, w, 3] RGB.
        self_ensemble: Take the mean over eight flips and turns of LR; see `srgan.ensemble`.
        colour_fix: Put the low frequencies of LR back; see `srgan.colour_fix`.

    Yields:
        [rows, W, 3] of LR's dtype, rounded half up. Joined, they have H rows.

    Raises:
        UserError: As `super_resolve`.
    """
    most = np.float32(np.iinfo(lr.dtype).max)
    scale = scale_of(generator)

    def upscale(window: Levels) -> Levels:
        pixels: Floats = window.astype(np.float32) / most
        if self_ensemble:
            sr = eightfold(lambda seen: _upscale(generator, seen), pixels)
        else:
            sr = _upscale(generator, pixels)
        if colour_fix:
            sr = with_lows_of(pixels, sr, scale)
        return _levels(sr, lr.dtype)

    if _is_small(lr, scale):
        yield upscale(lr)
        return
    parts = _split(generator)
    halo = parts.trunk_radius + parts.tail_radius + (HALO if colour_fix else 0)
    rows = min(_TRUNK_TILE, _BAND_BYTES // (scale**2 * lr[:1].nbytes))
    yield from bands_in_tiles(upscale, lr, halo=halo, side=_TRUNK_TILE, rows=rows)


def _is_small(lr: npt.NDArray[Any], scale: int) -> bool:
    """Whether all layers run on the whole of LR at once."""
    return bool(max(lr.shape[:2]) <= _TAIL_TILE // scale)


def _upscale(generator: keras.Model, pixels: Floats) -> Floats:
    """SR in [-1, 1] of a window in [0, 1]; the tail's layers run in tiles."""
    scale = scale_of(generator)
    if _is_small(pixels, scale):
        return _predict(generator, pixels)
    parts = _split(generator)
    return in_tiles(
        lambda part: _predict(parts.tail, part[..., :-3], part[..., -3:]),
        np.concatenate([_predict(parts.trunk, pixels), pixels], axis=-1),
        halo=parts.tail_radius,
        side=_TAIL_TILE // scale,
    )


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


def _levels(sr: Floats, dtype: Any) -> Levels:
    """SR in [-1, 1] -> uint8 or uint16, rounded half up."""
    if not np.isfinite(sr).all():
        raise UserError("the generator makes values that are not finite; take another epoch's")
    most = np.iinfo(dtype).max
    levels = sr + 1
    # In place: a window of SR in float32 has 113 MB.
    levels *= most / 2
    levels += 0.5
    np.floor(levels, out=levels)
    np.clip(levels, 0, most, out=levels)
    return levels.astype(dtype)
