"""A U-Net discriminator with spectral normalisation (Wang et al. 2021, section 3.3)."""

import keras
from keras import layers

from srgan.networks import BilinearUpscaling
from srgan.spectral import SpectralConv2D


def unet_discriminator(*, hr_crop: int, filters: int) -> keras.Model:
    """Three steps down and three up with skips: one logit for every pixel.

    Args:
        hr_crop: HR crop side in pixels, a multiple of 8.
        filters: Feature maps at full size; eight times as many at the smallest size.

    Returns:
        A model from HR or SR [N, hr_crop, hr_crop, 3] in [-1, 1] to float32 logits [N, hr_crop,
        hr_crop, 1]: positive for "real".
    """
    image = keras.Input((hr_crop, hr_crop, 3), name="image")
    x = layers.LeakyReLU(0.2)(layers.Conv2D(filters, 3, padding="same")(image))
    skips = []
    for factor in (2, 4, 8):
        skips.append(x)
        x = _spectral(x, factor * filters, 4, 2)
    for factor in (4, 2, 1):
        x = _spectral(BilinearUpscaling(2)(x), factor * filters, 3)
        x = layers.Add()([x, skips.pop()])
    for _ in range(2):
        x = _spectral(x, filters, 3)
    logits = layers.Conv2D(1, 3, padding="same", dtype="float32", name="logit")(x)
    return keras.Model(image, logits, name="discriminator")


def _spectral(x: keras.KerasTensor, filters: int, size: int, strides: int = 1) -> keras.KerasTensor:
    x = SpectralConv2D(filters, size, strides, padding="same", use_bias=False)(x)
    return layers.LeakyReLU(0.2)(x)
