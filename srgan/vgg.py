"""VGG19's features for the content loss (Ledig et al. 2017, section 2.2.1), in plain Keras."""

import math
from functools import partial
from typing import Any

import keras
from keras import ops

from srgan.config import VggName
from srgan.vgg_layers import FILTERS, LAST_LAYER, Weights, check_weights, weight_shapes

# Keras's "caffe" preprocessing: 0 to 255, BGR, minus ImageNet's mean, no scaling.
_MEAN_BGR = (103.939, 116.779, 123.68)

_FEATURE_SCALE = 1 / 12.75


class FeatureExtractor:
    """phi_{2,2} or phi_{5,4} of a VGG19 with frozen weights.

    Its convolutions run in bfloat16 under the policy `mixed_bfloat16`, else in float32. Its input
    and its features are float32.
    """

    def __init__(self, name: VggName, weights: Weights) -> None:
        """Builds the network up to the layer that is needed.

        Args:
            name: `vgg22` or `vgg54`.
            weights: `block1_conv1/kernel` [3, 3, in, out], `block1_conv1/bias` [out] and so on.

        Raises:
            ValueError: Naming an array that is missing or has a wrong shape.
        """
        check_weights(weights, weight_shapes(name), name)
        vgg19 = keras.applications.VGG19(
            include_top=False, weights=None, input_shape=(None, None, 3)
        )
        network = keras.Model(vgg19.input, vgg19.get_layer(LAST_LAYER[name]).output)
        policy = keras.config.dtype_policy()
        self._network = keras.models.clone_model(
            network,
            clone_function=partial(
                _in_dtype, policy.name if policy.compute_dtype == "bfloat16" else "float32"
            ),
        )
        self._network.trainable = False
        for layer in self._network.layers:
            if layer.name in FILTERS:
                layer.set_weights([weights[f"{layer.name}/{part}"] for part in ("kernel", "bias")])

    def __call__(self, images: Any) -> Any:
        """Features of images, scaled by 1/12.75.

        Args:
            images: [N, H, W, 3] RGB in [-1, 1].

        Returns:
            float32 [N, H / 2, W / 2, 128] (vgg22) or [N, H / 16, W / 16, 512] (vgg54).
        """
        bgr = ops.flip((ops.cast(images, "float32") + 1) * 127.5, axis=-1)
        features = self._network(bgr - ops.convert_to_tensor(_MEAN_BGR, "float32"), training=False)
        return ops.cast(features, "float32") * _FEATURE_SCALE


def extractor_flops(name: VggName, side: int) -> int:
    """FLOPs of the features of a square image: two for each multiplication of its convolutions."""
    flops = 0
    for key, shape in weight_shapes(name).items():
        if key.endswith("/kernel"):
            block = int(key.removeprefix("block")[0])
            flops += 2 * (side // 2 ** (block - 1)) ** 2 * math.prod(shape)
    return flops


def _in_dtype(dtype: str, layer: keras.Layer) -> keras.Layer:
    return layer.from_config(layer.get_config() | {"dtype": dtype})
