"""SRGAN's generator and discriminator (Ledig et al. 2017, figure 4) in plain Keras 3."""

from typing import Any

import keras
from keras import layers, ops


@keras.saving.register_keras_serializable("srgan")
class PixelShuffle(layers.Layer):
    """Sub-pixel rearrangement [N, h, w, 4C] -> [N, 2h, 2w, C] (Shi et al. 2016, eq. 4).

    The channel order is that of TensorFlow's depth_to_space. `keras.ops.depth_to_space` is
    missing from the last Keras that runs on Python 3.10.
    """

    def call(self, x: Any) -> Any:
        """Rearranges channels into space."""
        batch, height, width, channels = ops.shape(x)
        x = ops.reshape(x, (batch, height, width, 2, 2, channels // 4))
        x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
        return ops.reshape(x, (batch, 2 * height, 2 * width, channels // 4))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Doubles height and width, divides the channels by four."""
        batch, height, width, channels = input_shape
        assert channels is not None
        return (batch, height and 2 * height, width and 2 * width, channels // 4)


@keras.saving.register_keras_serializable("srgan")
class ICNR(keras.initializers.GlorotUniform):
    """Initialises a convolution before PixelShuffle (Aitken et al. 2017, section 3.2).

    The four channels that become neighbours have the same kernel. The network then begins with
    nearest-neighbour upscaling, without checkerboard artefacts.
    """

    def __call__(self, shape: tuple[int, ...], dtype: Any = None) -> Any:
        """The kernel [k, k, in, 4C]: Glorot's for C channels, four times."""
        kernel = super().__call__((*shape[:-1], shape[-1] // 4), dtype=dtype)
        return ops.tile(kernel, (1, 1, 1, 4))


def generator(
    *,
    scale: int = 4,
    blocks: int = 16,
    filters: int = 64,
    batch_norm: bool = True,
    icnr: bool = False,
    normalisation: type[keras.Layer] = layers.BatchNormalization,
) -> keras.Model:
    """SRResNet: residual blocks at LR size, then a sub-pixel stage for every factor of 2.

    Args:
        scale: Super-resolution factor, a power of two.
        blocks: Residual blocks.
        filters: Feature maps.
        batch_norm: Batch normalisation.
        icnr: Initialise the sub-pixel convolutions with ICNR.
        normalisation: The layer that does it, where not Keras's own.

    Returns:
        A model from LR [N, h, w, 3] in [0, 1] to SR [N, h * scale, w * scale, 3] in [-1, 1].

    Raises:
        ValueError: If scale is not a power of two.
    """
    if scale < 2 or scale & (scale - 1):
        raise ValueError(f"the scale must be a power of two from 2, got {scale}")
    norm = normalisation if batch_norm else None
    lr = keras.Input((None, None, 3), name="lr")
    x = features = _prelu(_conv(lr, filters, 9))
    for _ in range(blocks):
        block = _prelu(_normalised(_conv(x, filters, 3), norm))
        block = _normalised(_conv(block, filters, 3), norm)
        x = layers.Add()([x, block])
    x = _normalised(_conv(x, filters, 3), norm)
    x = layers.Add()([features, x])
    for _ in range(scale.bit_length() - 1):
        initializer = ICNR() if icnr else "glorot_uniform"
        x = _prelu(PixelShuffle()(_conv(x, 4 * filters, 3, initializer=initializer)))
    x = _conv(x, 3, 9)
    sr = layers.Activation("tanh", dtype=_output_dtype(), name="sr")(x)
    return keras.Model(lr, sr, name="generator")


def discriminator(
    *,
    hr_crop: int = 96,
    filters: int = 64,
    dense: int = 1024,
    batch_norm: bool = True,
    normalisation: type[keras.Layer] = layers.BatchNormalization,
) -> keras.Model:
    """Eight convolutions from `filters` to 8 * `filters`, two dense layers, one logit.

    Args:
        hr_crop: HR crop side in pixels, at least 16.
        filters: Feature maps of the first convolution.
        dense: Units of the first dense layer.
        batch_norm: Batch normalisation from the second convolution on.
        normalisation: As the generator's.

    Returns:
        A model from HR or SR [N, hr_crop, hr_crop, 3] in [-1, 1] to logits [N, 1]:
        positive for "real".
    """
    image = keras.Input((hr_crop, hr_crop, 3), name="image")
    x = _leaky_relu(_conv(image, filters, 3))
    for number in range(1, 8):
        width = filters * 2 ** (number // 2)
        x = _conv(x, width, 3, strides=1 + number % 2)
        x = _leaky_relu(_normalised(x, normalisation if batch_norm else None))
    x = layers.Flatten()(x)
    x = _leaky_relu(layers.Dense(dense)(x))
    logit = layers.Dense(1, dtype=_output_dtype(), name="logit")(x)
    return keras.Model(image, logit, name="discriminator")


def _output_dtype() -> str:
    """The dtype of outputs and losses: at least float32, whatever the policy."""
    return str(keras.config.dtype_policy().variable_dtype)


def _conv(
    x: keras.KerasTensor,
    filters: int,
    kernel_size: int,
    strides: int = 1,
    initializer: Any = "glorot_uniform",
) -> keras.KerasTensor:
    return layers.Conv2D(
        filters, kernel_size, strides=strides, padding="same", kernel_initializer=initializer
    )(x)


def _normalised(x: keras.KerasTensor, layer: type[keras.Layer] | None) -> keras.KerasTensor:
    return layer()(x) if layer else x


def _prelu(x: keras.KerasTensor) -> keras.KerasTensor:
    return layers.PReLU(shared_axes=[1, 2])(x)


def _leaky_relu(x: keras.KerasTensor) -> keras.KerasTensor:
    return layers.LeakyReLU(negative_slope=0.2)(x)
