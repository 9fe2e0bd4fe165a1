"""A convolution with spectral normalisation (Miyato et al. 2018), in plain Keras."""

from typing import Any

import keras
from keras import ops

_SQUARINGS = 4  # of the Gram matrix: 16 steps of the power iteration


class SpectralConv2D(keras.layers.Conv2D):
    """Conv2D whose kernel is divided by its largest singular value, as a matrix [k * k * in, out].

    Keras's wrapper takes one step of the power iteration in each pass. It keeps the vector of that
    iteration and overwrites the kernel, so replicas would have to agree on both. This layer finds
    the value again in each pass, by a few small matrix products, and has no state but Conv2D's.
    """

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        """Convolves [N, h, w, in]. The division is in float32 at least.

        Under `mixed_bfloat16` Keras gives the kernel rounded to bfloat16.
        """
        exact = ops.cast(kernel, self.variable_dtype)
        exact = exact / largest_singular_value(ops.reshape(exact, (-1, self.filters)))
        return super().convolution_op(inputs, ops.cast(exact, self.compute_dtype))


def largest_singular_value(matrix: Any) -> Any:
    """The largest singular value of a matrix, by the power iteration.

    The powers of the Gram matrix tend to the outer product of the right singular vector v with
    itself. The left one is u = matrix v, at length 1. The value is u^T matrix v. It is never above
    the true one, and a little below where the second value is close to the first.

    Args:
        matrix: [rows, columns], float32 or float64. It must not be 0.

    Returns:
        A scalar. Its gradient is u v^T, the two vectors taken as constants (Miyato et al., eq. 9).
    """
    fixed = ops.stop_gradient(matrix)
    power = ops.matmul(ops.transpose(fixed), fixed)
    for _ in range(_SQUARINGS):
        power = power / ops.trace(power)  # else the numbers leave float32's range
        power = ops.matmul(power, power)
    right = _unit_length(ops.take(power, ops.argmax(ops.diagonal(power)), axis=1))
    left = _unit_length(ops.matmul(fixed, right))
    return ops.sum(left * ops.matmul(matrix, right))


def _unit_length(vector: Any) -> Any:
    return vector / ops.norm(vector)
