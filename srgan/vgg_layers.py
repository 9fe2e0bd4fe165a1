"""VGG19's layers and the shapes of their weights, without Keras: the driver checks weights."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from srgan.config import VggName

# phi_{i,j}: the j-th convolution, after its activation, before the i-th pooling.
LAST_LAYER = {"vgg22": "block2_conv2", "vgg54": "block5_conv4"}

# Filters of every convolution.
FILTERS = {
    f"block{block}_conv{number}": filters
    for block, (convolutions, filters) in enumerate(
        ((2, 64), (2, 128), (4, 256), (4, 512), (4, 512)), 1
    )
    for number in range(1, convolutions + 1)
}

Weights = Mapping[str, npt.NDArray[np.float32]]


def weight_shapes(name: VggName) -> dict[str, tuple[int, ...]]:
    """The shapes of the arrays that an extractor needs, by name."""
    shapes: dict[str, tuple[int, ...]] = {}
    channels = 3
    for layer, filters in FILTERS.items():
        shapes[f"{layer}/kernel"] = (3, 3, channels, filters)
        shapes[f"{layer}/bias"] = (filters,)
        if layer == LAST_LAYER[name]:
            break
        channels = filters
    return shapes


def check_weights(weights: Weights, shapes: Mapping[str, tuple[int, ...]], name: str) -> None:
    """Raises ValueError naming the first array that the loss `name` lacks or cannot use."""
    for key, shape in shapes.items():
        if key not in weights:
            raise ValueError(f"lacks {key}, which {name} needs")
        if weights[key].shape != shape:
            raise ValueError(f"{key} has shape {list(weights[key].shape)}, expected {list(shape)}")
        if not np.isfinite(weights[key]).all():
            raise ValueError(f"{key} holds values that are not finite")
