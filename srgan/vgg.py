"""VGG19's features for the content loss (Ledig et al. 2017, section 2.2.1), in plain Keras."""

from collections.abc import Iterable, Mapping
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import layers, ops

from srgan.config import VggName

# phi_{i,j}: the j-th convolution, after its activation, before the i-th pooling.
_LAST_LAYER = {"vgg22": "block2_conv2", "vgg54": "block5_conv4"}

_BLOCKS = ((2, 64), (2, 128), (4, 256), (4, 512), (4, 512))  # convolutions, filters

# Keras's "caffe" preprocessing: 0 to 255, BGR, ImageNet's mean taken away, no scaling.
_MEAN_BGR = (103.939, 116.779, 123.68)

_FEATURE_SCALE = 1 / 12.75

Weights = Mapping[str, npt.NDArray[np.float32]]


class FeatureExtractor:
    """phi_{2,2} or phi_{5,4} of a VGG19 with frozen weights, in float32 whatever the policy."""

    def __init__(self, name: VggName, weights: Weights) -> None:
        """Builds the network up to the layer that is needed.

        Args:
            name: `vgg22` or `vgg54`.
            weights: `block1_conv1/kernel` [3, 3, in, out], `block1_conv1/bias` [out] and so on.

        Raises:
            ValueError: Naming an array that is missing or of a wrong shape.
        """
        check_weights(weights, name)
        image = x = keras.Input((None, None, 3), name="bgr", dtype="float32")
        for layer, pooled, (_, _, _, filters) in _layers(name):
            if pooled:
                x = layers.MaxPooling2D(2, dtype="float32")(x)
            x = layers.Conv2D(
                filters,
                3,
                padding="same",
                activation="relu",
                dtype="float32",
                trainable=False,
                name=layer,
            )(x)
        self._network = keras.Model(image, x, name=name)
        for layer, _, _ in _layers(name):
            self._network.get_layer(layer).set_weights(
                [weights[f"{layer}/kernel"], weights[f"{layer}/bias"]]
            )

    def __call__(self, images: Any) -> Any:
        """Features of images, scaled by 1/12.75.

        Args:
            images: [N, H, W, 3] RGB in [-1, 1].

        Returns:
            float32 [N, H / 2, W / 2, 128] (vgg22) or [N, H / 16, W / 16, 512] (vgg54).
        """
        bgr = ops.flip((ops.cast(images, "float32") + 1) * 127.5, axis=-1)
        features = self._network(bgr - ops.convert_to_tensor(_MEAN_BGR, "float32"), training=False)
        return features * _FEATURE_SCALE


def weight_shapes(name: VggName) -> dict[str, tuple[int, ...]]:
    """The arrays that an extractor needs, by name."""
    shapes: dict[str, tuple[int, ...]] = {}
    for layer, _, kernel in _layers(name):
        shapes |= {f"{layer}/kernel": kernel, f"{layer}/bias": kernel[-1:]}
    return shapes


def check_weights(weights: Weights, name: VggName) -> None:
    """Raises ValueError naming the first array that an extractor lacks or cannot use."""
    for key, shape in weight_shapes(name).items():
        if key not in weights:
            raise ValueError(f"lacks {key}, which {name} needs")
        if weights[key].shape != shape:
            raise ValueError(f"{key} has shape {list(weights[key].shape)}, expected {list(shape)}")
        if not np.isfinite(weights[key]).all():
            raise ValueError(f"{key} holds values that are not finite")


def _layers(name: VggName) -> Iterable[tuple[str, bool, tuple[int, int, int, int]]]:
    """(name, whether a pooling comes before, kernel's shape) of every convolution needed."""
    channels = 3
    for block, (convolutions, filters) in enumerate(_BLOCKS, 1):
        for number in range(1, convolutions + 1):
            layer = f"block{block}_conv{number}"
            yield layer, block > 1 and number == 1, (3, 3, channels, filters)
            if layer == _LAST_LAYER[name]:
                return
            channels = filters
