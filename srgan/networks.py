"""SRGAN's generator and discriminator (Ledig et al. 2017, figure 4) in plain Keras 3."""

import math
from functools import partial
from typing import Any

import keras
from keras import layers, ops

from data_pipeline.imresize import SCALES
from srgan.spectral import SpectralConv2D


@keras.saving.register_keras_serializable("srgan")
class PixelShuffle(layers.Layer):
    """Sub-pixel rearrangement [N, h, w, r * r * C] -> [N, r * h, r * w, C].

    Shi et al. 2016, eq. 4.
    The channel order is that of TensorFlow's depth_to_space. `keras.ops.depth_to_space` is
    missing from the last Keras that runs on Python 3.10.
    """

    def __init__(self, factor: int = 2, **options: Any) -> None:
        """`factor` is r. Files of generators that do not name it have 2."""
        super().__init__(**options)
        self.factor = factor

    def call(self, x: Any) -> Any:
        """Rearranges channels into space."""
        batch, height, width, channels = ops.shape(x)
        r, left = self.factor, channels // self.factor**2
        x = ops.reshape(x, (batch, height, width, r, r, left))
        x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
        return ops.reshape(x, (batch, r * height, r * width, left))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Multiplies height and width by r, divides the channels by its square."""
        batch, height, width, channels = input_shape
        assert channels is not None
        r = self.factor
        return (batch, height and r * height, width and r * width, channels // r**2)

    def get_config(self) -> dict[str, Any]:
        """What a file needs to make this layer again."""
        return {**super().get_config(), "factor": self.factor}


@keras.saving.register_keras_serializable("srgan")
class BilinearUpscaling(layers.Layer):
    """Bilinear upscaling [N, h, w, C] -> [N, r * h, r * w, C], with half-pixel centres.

    Keras's UpSampling2D fails in a TensorFlow graph that does not know the image's size.
    """

    def __init__(self, factor: int, **options: Any) -> None:
        """`factor` is r."""
        super().__init__(**options)
        self.factor = factor

    def call(self, x: Any) -> Any:
        """Upscales the height, then the width."""
        turned = ops.transpose(self._taller(x), (0, 2, 1, 3))
        return ops.transpose(self._taller(turned), (0, 2, 1, 3))

    def _taller(self, x: Any) -> Any:
        before = ops.concatenate([x[:, :1], x[:, :-1]], axis=1)
        after = ops.concatenate([x[:, 1:], x[:, -1:]], axis=1)
        offsets = [(row + 0.5) / self.factor - 0.5 for row in range(self.factor)]
        rows = [(1 - abs(o)) * x + abs(o) * (before if o < 0 else after) for o in offsets]
        batch, height, width, channels = ops.shape(x)
        shape = (batch, self.factor * height, width, channels)
        return ops.reshape(ops.stack(rows, axis=2), shape)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Multiplies height and width by r."""
        batch, height, width, channels = input_shape
        r = self.factor
        return (batch, height and r * height, width and r * width, channels)

    def get_config(self) -> dict[str, Any]:
        """What a file needs to make this layer again."""
        return {**super().get_config(), "factor": self.factor}


@keras.saving.register_keras_serializable("srgan")
class ICNR(keras.initializers.GlorotUniform):
    """Initialises a convolution before PixelShuffle (Aitken et al. 2017, section 3.2).

    The r * r channels that become neighbours have the same kernel. The network then begins with
    nearest-neighbour upscaling, without checkerboard artefacts.
    """

    def __init__(self, factor: int = 2, **options: Any) -> None:
        """`factor` is PixelShuffle's r. Files of generators that do not name it have 2."""
        super().__init__(**options)
        self.factor = factor

    def __call__(self, shape: tuple[int, ...], dtype: Any = None) -> Any:
        """The kernel [k, k, in, r * r * C]: Glorot's for C channels, r * r times."""
        copies = self.factor**2
        kernel = super().__call__((*shape[:-1], shape[-1] // copies), dtype=dtype)
        return ops.tile(kernel, (1, 1, 1, copies))

    def get_config(self) -> dict[str, Any]:
        """What a file needs to make this initializer again."""
        return {**super().get_config(), "factor": self.factor}


def generator(
    *,
    scale: int = 4,
    blocks: int = 16,
    filters: int = 64,
    batch_norm: bool = True,
    prelu_slope: float = 0.25,
    direct_upsampling: bool = False,
    global_skip: bool = False,
    icnr: bool = False,
    normalisation: type[keras.Layer] = layers.BatchNormalization,
) -> keras.Model:
    """SRResNet: residual blocks at LR size, then a sub-pixel stage for every factor of 2.

    Scale 3 has one stage of factor 3 (as EDSR, Lim et al. 2017).

    Args:
        scale: Super-resolution factor, one of `SCALES`.
        blocks: Residual blocks.
        filters: Feature maps.
        batch_norm: Batch normalisation.
        prelu_slope: What PReLU's slopes for negative values are at first (0.25: He et al. 2015).
        direct_upsampling: One sub-pixel convolution makes the image (ESPCN, Shi et al. 2016), in
            place of the paper's stages of `filters` feature maps and its 9x9 convolution.
        global_skip: SR is LR, upscaled bilinearly, plus what the last convolution gives. Without
            it SR is the tanh of that, as in the paper.
        icnr: Initialise the sub-pixel convolutions with ICNR.
        normalisation: The layer that does it, where not Keras's own.

    Returns:
        A model from LR [N, h, w, 3] in [0, 1] to SR [N, h * scale, w * scale, 3] in [-1, 1];
        with the global skip some values may lie a little outside.

    Raises:
        ValueError: If it is another scale.
    """
    if scale not in SCALES:
        raise ValueError(f"the scale must be one of {SCALES}, got {scale}")
    norm = normalisation if batch_norm else None
    lr = keras.Input((None, None, 3), name="lr")
    x = features = _prelu(_conv(lr, filters, 9), prelu_slope)
    for _ in range(blocks):
        block = _prelu(_normalised(_conv(x, filters, 3), norm), prelu_slope)
        block = _normalised(_conv(block, filters, 3), norm)
        x = layers.Add()([x, block])
    x = _normalised(_conv(x, filters, 3), norm)
    x = layers.Add()([features, x])
    if direct_upsampling:
        x = _sub_pixel(x, 3, scale, icnr=icnr)
    else:
        for factor in [3] if scale == 3 else [2] * (scale.bit_length() - 1):
            x = _prelu(_sub_pixel(x, filters, factor, icnr=icnr), prelu_slope)
        x = _conv(x, 3, 9)
    if global_skip:
        exact = {"dtype": _output_dtype()}  # bfloat16 has fewer levels than an image
        upscaled = BilinearUpscaling(scale, **exact)(lr)
        upscaled = layers.Rescaling(2.0, -1.0, **exact)(upscaled)
        sr = layers.Add(name="sr", **exact)([upscaled, x])
    else:
        sr = layers.Activation("tanh", dtype=_output_dtype(), name="sr")(x)
    return keras.Model(lr, sr, name="generator")


def scale_of(network: keras.Model) -> int:
    """How many times a generator enlarges: the product of its sub-pixel stages' factors."""
    return math.prod(layer.factor for layer in network.layers if isinstance(layer, PixelShuffle))


def discriminator(
    *,
    hr_crop: int = 96,
    filters: int = 64,
    dense: int = 1024,
    batch_norm: bool = True,
    patch: bool = False,
    spectral_norm: bool = False,
    normalisation: type[keras.Layer] = layers.BatchNormalization,
) -> keras.Model:
    """The paper's: eight convolutions from `filters` to 8 * `filters`, two dense layers, one logit.

    Args:
        hr_crop: HR crop side in pixels, at least 16.
        filters: Feature maps of the first convolution.
        dense: Units of the first dense layer; not used with `patch`.
        batch_norm: Batch normalisation from the second convolution on.
        patch: A PatchGAN (Isola et al. 2017) in its place: five convolutions and no dense layer.
            A logit sees a square of 28 px.
        spectral_norm: Spectral normalisation of all convolutions but the one that makes logits.
        normalisation: As the generator's.

    Returns:
        A model from HR or SR [N, hr_crop, hr_crop, 3] in [-1, 1] to logits: positive for "real".
        [N, 1], or with `patch` [N, hr_crop / 4, hr_crop / 4, 1], rounded up.
    """
    conv = partial(_conv, layer=SpectralConv2D if spectral_norm else layers.Conv2D)
    norm = normalisation if batch_norm else None
    image = keras.Input((hr_crop, hr_crop, 3), name="image")
    x = _leaky_relu(conv(image, filters, 3))
    if patch:
        for factor, size, strides in ((2, 4, 2), (4, 4, 2), (8, 3, 1)):
            x = _leaky_relu(_normalised(conv(x, factor * filters, size, strides), norm))
        logits = layers.Conv2D(1, 3, padding="same", dtype=_output_dtype(), name="logit")(x)
        return keras.Model(image, logits, name="discriminator")
    for number in range(1, 8):
        width = filters * 2 ** (number // 2)
        x = conv(x, width, 3, strides=1 + number % 2)
        x = _leaky_relu(_normalised(x, norm))
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
    *,
    initializer: Any = "glorot_uniform",
    layer: type[layers.Conv2D] = layers.Conv2D,
) -> keras.KerasTensor:
    return layer(
        filters, kernel_size, strides=strides, padding="same", kernel_initializer=initializer
    )(x)


def _sub_pixel(x: keras.KerasTensor, filters: int, factor: int, *, icnr: bool) -> keras.KerasTensor:
    initializer = ICNR(factor) if icnr else "glorot_uniform"
    return PixelShuffle(factor)(_conv(x, factor**2 * filters, 3, initializer=initializer))


def _normalised(x: keras.KerasTensor, layer: type[keras.Layer] | None) -> keras.KerasTensor:
    return layer()(x) if layer else x


def _prelu(x: keras.KerasTensor, slope: float) -> keras.KerasTensor:
    return layers.PReLU(keras.initializers.Constant(slope), shared_axes=[1, 2])(x)


def _leaky_relu(x: keras.KerasTensor) -> keras.KerasTensor:
    return layers.LeakyReLU(negative_slope=0.2)(x)
