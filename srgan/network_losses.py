"""The losses that compare images by networks with frozen weights, as functions (HR, SR) -> [N]."""

from collections.abc import Callable
from functools import partial
from typing import Any

import keras

from data_pipeline.platform.storage import Storage
from srgan import losses
from srgan.config import Config, VggName, needed_extractors
from srgan.lpips import lpips
from srgan.lpips_layers import weight_shapes
from srgan.run_layout import LPIPS_KEY
from srgan.vgg import FeatureExtractor
from srgan.vgg_layers import Weights, check_weights
from srgan.vgg_weights import read_vgg_weights

Loss = Callable[[Any, Any], Any]


def network_losses(config: Config, run: Storage) -> dict[str, Loss]:
    """The losses that a run's phases need, by term, with RUN's copies of the weights.

    Call it inside the strategy's scope.
    """
    names = needed_extractors(config)
    weights = read_vgg_weights(run) if names else {}
    found: dict[str, Loss] = {name: content_loss(name, weights) for name in names}
    if config.needs_lpips:
        found["lpips"] = lpips_loss(read_vgg_weights(run, LPIPS_KEY))
    return found


def content_loss(name: VggName, weights: Weights) -> Loss:
    """`losses.content` of the features of VGG19; raises ValueError as FeatureExtractor does."""
    extractor = FeatureExtractor(name, weights)
    return lambda hr, sr: losses.content(extractor(hr), extractor(sr))


def lpips_loss(weights: Weights) -> Loss:
    """LPIPS of VGG16 (Zhang et al. 2018); [N, H, W, 3] in [-1, 1], H and W at least 16.

    The convolutions run in bfloat16 under the policy `mixed_bfloat16`, else in float32. The loss is
    float32.

    Args:
        weights: The arrays of `lpips_layers.weight_shapes`.

    Raises:
        ValueError: Naming an array that is missing or cannot be used.
    """
    shapes = weight_shapes("VGG16")
    check_weights(weights, shapes, "lpips")
    half = keras.config.dtype_policy().compute_dtype == "bfloat16"
    dtype = "bfloat16" if half else "float32"
    # Variables, because a graph would hold 59 MB of constants once for each use.
    variables = {
        name: keras.Variable(weights[name], dtype=dtype, trainable=False) for name in shapes
    }
    return partial(lpips, weights=variables, trunk="VGG16", dtype=dtype)
