"""A generator as a SavedModel: TensorFlow alone runs it, without Keras and this package."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def write_saved_model(network: Any, facts: Mapping[str, Any], folder: Path) -> None:
    """Writes a SavedModel whose signature `serving_default` maps `image` to `sr`.

    Both are uint8 [N, H, W, 3] of any size, rounded half up. No facts are in it: `srgan.json` lies
    beside it.

    Args:
        network: Maps float32 LR in [0, 1] to SR in [-1, 1].
        facts: Not used.
        folder: It becomes the SavedModel.
    """
    import tensorflow as tf

    def serve(image: Any) -> dict[str, Any]:
        sr = network(tf.cast(image, tf.float32) / 255.0, training=False)
        levels = tf.floor(sr * 127.5 + 128.0)
        return {"sr": tf.cast(tf.clip_by_value(levels, 0.0, 255.0), tf.uint8)}

    # A module of bare variables: of a Keras model it would want Keras's layers, and ours, to load.
    module = tf.Module()
    module.weights = [weight.value for weight in network.weights]
    image = tf.TensorSpec([None, None, None, 3], tf.uint8, name="image")
    signature = tf.function(serve, input_signature=[image])
    tf.saved_model.save(module, str(folder), signatures={"serving_default": signature})
