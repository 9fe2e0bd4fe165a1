"""Batch normalisation with the statistics of all replicas, in two all-reduces a layer and step."""

from typing import Any

import keras
import tensorflow as tf
from keras import ops


class SyncBatchNormalization(keras.layers.BatchNormalization):
    """Keras's layer, whose training mode takes mean and variance over the global batch.

    The sums travel together: one all-reduce forward, one backward. Keras's own synchronised layer
    needs five. Generators are stored with Keras's layer, which has the same variables.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalises [N, h, w, C] or [N, C] over all axes but the last.

        Args:
            inputs: This replica's part of the batch.
            training: Whether to use, and to add to the moving averages, the batch's statistics.
            mask: Must be None.
        """
        if not training:
            return super().call(inputs, training=training, mask=mask)
        x = tf.cast(inputs, self.variable_dtype)
        mean, variance = _moments(x)
        for moving, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + value * (1 - self.momentum))
        outputs = ops.batch_normalization(
            x, mean, variance, axis=-1, offset=self.beta, scale=self.gamma, epsilon=self.epsilon
        )
        return tf.cast(outputs, self.compute_dtype)


def _moments(x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Mean and biased variance of all replicas' x: [C] each."""
    axes = list(range(x.shape.rank - 1))
    size = tf.cast(tf.size(x) // x.shape[-1], x.dtype)
    sums = tf.stack([tf.reduce_sum(x, axes), tf.reduce_sum(tf.square(x), axes)])
    context = tf.distribute.get_replica_context()
    if context and context.num_replicas_in_sync > 1:
        packed = tf.concat([tf.reshape(sums, [-1]), [size]], axis=0)
        packed = context.all_reduce(tf.distribute.ReduceOp.SUM, packed)
        size, sums = packed[-1], tf.reshape(packed[:-1], tf.shape(sums))
    mean, square = tf.unstack(sums / size)
    return mean, tf.maximum(square - tf.square(mean), 0)
