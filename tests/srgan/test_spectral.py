"""Spectral normalisation, against numpy's singular value decomposition."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from srgan.spectral import SpectralConv2D, largest_singular_value

SHAPES = [(27, 64), (1024, 128), (72, 64), (4, 16)]  # kernels as matrices, tall and wide


def with_values(shape: tuple[int, int], values: np.ndarray) -> tuple[np.ndarray, ...]:
    """A matrix [rows, columns] with these singular values, and its first two singular vectors."""
    random = np.random.default_rng(sum(shape))
    left, right = (np.linalg.qr(random.normal(size=(n, len(values))))[0] for n in shape)
    return left * values @ right.T, left[:, 0], right[:, 0]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_where_the_first_value_stands_out(shape, dtype, size):
    """The value is exact, and its gradient is the outer product of its two vectors."""
    values = size * np.append(1.0, np.linspace(0.7, 0, min(shape) - 1))
    matrix, left, right = with_values(shape, values)
    kernel = tf.Variable(matrix.astype(dtype))
    with tf.GradientTape() as tape:
        found = largest_singular_value(kernel)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, size, rtol=1e-4 if dtype == "float32" else 1e-8)
    gradient = tape.gradient(found, kernel)
    np.testing.assert_allclose(gradient, np.outer(left, right), rtol=0, atol=1e-3)


@pytest.mark.parametrize("shape", [*SHAPES, (576, 128), (1152, 256)])
def test_random_kernels(shape):
    """Their first values lie close together: a little below the true one, and never above."""
    random = np.random.default_rng(0)
    for _ in range(4):
        matrix = random.normal(size=shape).astype(np.float32)
        ratio = float(largest_singular_value(matrix)) / np.linalg.svd(matrix, compute_uv=False)[0]
        assert 0.98 < ratio < 1 + 1e-6


@pytest.mark.parametrize(
    ("policy", "tolerance"), [("float32", 1e-5), ("float64", 1e-7), ("mixed_bfloat16", 0.02)]
)
def test_the_convolution_divides_its_kernel(policy, tolerance):
    """The rest is Conv2D's: strides, bias, activation. It keeps nothing, and leaves its kernel."""
    options = {"strides": 2, "padding": "same", "activation": "relu", "dtype": policy}
    layer = SpectralConv2D(8, 4, bias_initializer="ones", **options)
    plain = keras.layers.Conv2D(8, 4, **{**options, "dtype": layer.variable_dtype})
    image = np.random.default_rng(0).normal(size=(2, 9, 6, 5)).astype(np.float32)
    layer.build(image.shape)
    plain.build(image.shape)
    values = np.append(5.0, np.linspace(2, 1, 7))
    kernel = with_values((80, 8), values)[0].reshape(4, 4, 5, 8)
    layer.set_weights([kernel, layer.get_weights()[1]])
    before = layer.get_weights()
    plain.set_weights([before[0] / 5, before[1]])
    found = layer(image)
    assert found.dtype == layer.compute_dtype
    np.testing.assert_allclose(
        np.asarray(found, np.float64), plain(image), rtol=tolerance, atol=tolerance
    )
    assert len(layer.variables) == 2
    np.testing.assert_array_equal(layer.get_weights()[0], before[0])
