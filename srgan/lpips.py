"""LPIPS v0.1 (Zhang et al. 2018): a learned distance of two images, in plain Keras."""

from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from itertools import pairwise, product
from typing import Any

import numpy as np
import numpy.typing as npt
from keras import ops

from srgan.lpips_layers import TRUNKS

Weights = Mapping[str, npt.NDArray[np.floating[Any]]]

# ImageNet's mean and deviation of RGB for images in [-1, 1].
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)

# Tiles of large images: their cores begin at multiples of the stride of AlexNet's last features,
# and the halo is more than half of its receptive field, which is 163 px.
_TILE, _HALO = 1024, 112
_STRIDES = (4, 8, 16, 16, 16)  # of AlexNet's features, in pixels
_SMALLEST = 31  # AlexNet's features of smaller images are empty


@cache
def alexnet_weights() -> Weights:
    """AlexNet's arrays in float32; they come with the package, most of them in half precision."""
    with files("srgan").joinpath("weights/lpips_alexnet.npz").open("rb") as file:
        return {name: value.astype(np.float32) for name, value in np.load(file).items()}


def lpips(
    one: Any, other: Any, weights: Mapping[str, Any], trunk: str, dtype: str = "float32"
) -> Any:
    """The distance of images (Zhang et al. 2018, eq. 1).

    Args:
        one: [N, H, W, 3] RGB in [-1, 1]; H and W at least 31 for AlexNet, 16 for VGG16.
        other: Likewise.
        weights: The arrays of `weight_shapes`.
        trunk: `AlexNet` or `VGG16`.
        dtype: In which the convolutions compute; the distances of their outputs are in float32.

    Returns:
        float32 [N]; 0 for equal images.
    """
    return sum(ops.mean(one, axis=(1, 2)) for one in _distances(one, other, weights, trunk, dtype))


def alexnet_lpips(one: npt.NDArray[np.uint8], other: npt.NDArray[np.uint8]) -> float | None:
    """AlexNet's `lpips` of two images uint8 [H, W, 3] RGB; None if they are too small for it.

    Large images go in tiles, so that the memory is bounded; the value is the same.
    """
    height, width = one.shape[:2]
    if min(height, width) < _SMALLEST:
        return None
    if np.array_equal(one, other):
        return 0.0
    totals, counts = np.zeros(len(_STRIDES)), np.zeros(len(_STRIDES))
    for (rows, kept_rows), (columns, kept_columns) in product(_windows(height), _windows(width)):
        first, second = (np.float32(x[None, rows, columns]) / 127.5 - 1 for x in (one, other))
        found = _distances(first, second, alexnet_weights(), "AlexNet")
        kept = zip(kept_rows, kept_columns, strict=True)
        for stage, (distances, inside) in enumerate(zip(found, kept, strict=True)):
            values = ops.convert_to_numpy(distances)[0][inside]
            totals[stage] += values.sum(dtype=np.float64)
            counts[stage] += values.size
    return float((totals / counts).sum())


def _windows(length: int) -> Iterator[tuple[slice, list[slice]]]:
    """Along one axis: each tile with its halo, and the positions that it adds at every stage."""
    for start, end in pairwise([*range(0, max(1, length - _HALO), _TILE), length]):
        first, last = max(0, start - _HALO), min(length, end + _HALO)
        stop = None if end == length else end - first
        kept = [slice((start - first) // stride, stop and stop // stride) for stride in _STRIDES]
        yield slice(first, last), kept


def _distances(
    one: Any, other: Any, weights: Mapping[str, Any], trunk: str, dtype: str = "float32"
) -> Iterator[Any]:
    """The distance at every position of every stage: [N, h, w]."""
    both = [features(images, weights, trunk, dtype) for images in (one, other)]
    pairs = zip(*both, strict=True)
    for stage, (first, second) in enumerate(pairs):
        head = ops.cast(weights[f"NetLinLayer_{stage}.Conv_0.kernel"][0, 0, :, 0], "float32")
        difference = ops.square(_unit_length(first) - _unit_length(second))
        yield ops.sum(difference * head, axis=-1)


def features(images: Any, weights: Mapping[str, Any], trunk: str, dtype: str) -> Iterator[Any]:
    """Every stage's output, float32 [N, h, w, C]."""
    shift, scale = (ops.array(values, "float32") for values in (_SHIFT, _SCALE))
    x = ops.cast((ops.cast(images, "float32") - shift) / scale, dtype)
    number = 0
    for stage in TRUNKS[trunk]:
        if stage.pool:
            x = ops.max_pool(x, stage.pool, strides=2)
        for _ in stage.filters:
            name = f"{trunk}_0.Conv_{number}"
            edge = (stage.padding, stage.padding)
            x = ops.conv(
                ops.pad(x, ((0, 0), edge, edge, (0, 0))),
                ops.cast(weights[f"{name}.kernel"], dtype),
                strides=stage.stride,
            )
            x = ops.relu(x + ops.cast(weights[f"{name}.bias"], dtype))
            number += 1
        yield ops.cast(x, "float32")


def _unit_length(features: Any) -> Any:
    """Every position's vector, scaled to length 1."""
    # The square root's gradient is infinite at 0, where all features are.
    length = ops.sqrt(ops.sum(ops.square(features), axis=-1, keepdims=True) + 1e-20)
    return features / (length + 1e-10)
