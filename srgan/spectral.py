"""A convolution with spectral normalisation (Miyato et al. 2018), in plain Keras."""

from typing import Any

import keras
from keras import ops

_SQUARINGS = 4  # of the Gram matrix: 16 steps of the power iteration


class SpectralConv2D(keras.layers.Conv2D):
    """Conv2D by its kernel over the kernel's largest singular value, as a matrix [k * k * in, out].

    Keras's wrapper estimates the value by one step of the power iteration a pass, from a vector
    that it keeps, and overwrites the kernel. Replicas would have to agree on both. This one finds
    the value anew, by a few small products of matrices, so that it keeps nothing.
    """

    def call(self, inputs: Any) -> Any:
        """Convolves [N, h, w, in]."""
        kernel = ops.cast(self.kernel, self.variable_dtype)
        kernel /= largest_singular_value(ops.reshape(kernel, (-1, self.filters)))
        x = ops.conv(
            inputs,
            ops.cast(kernel, self.compute_dtype),
            strides=list(self.strides),
            padding=self.padding,
        )
        return ops.add(x, self.bias)


def largest_singular_value(matrix: Any) -> Any:
    """Of a matrix [rows, columns] that is not 0; a scalar. Its gradient is that of the true value.

    The powers of the Gram matrix tend to the outer product of the right singular vector.
    """
    fixed = ops.stop_gradient(matrix)
    power = ops.matmul(ops.transpose(fixed), fixed)
    for _ in range(_SQUARINGS):
        power /= ops.trace(power)  # else the numbers leave float32's range
        power = ops.matmul(power, power)
    right = _unit_length(ops.take(power, ops.argmax(ops.diagonal(power)), axis=1))
    left = _unit_length(ops.matmul(fixed, right))
    return ops.sum(left * ops.matmul(matrix, right))


def _unit_length(vector: Any) -> Any:
    return vector / ops.norm(vector)
