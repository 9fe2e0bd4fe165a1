"""The paper's losses (Ledig et al. 2017, section 2.2) as pure functions of `keras.ops`.

Each returns one value per image. The caller takes the mean over the batch, because only the caller
knows the size of the global batch.
"""

from typing import Any

from keras import ops


def pixel_mse(hr: Any, sr: Any) -> Any:
    """Mean squared error (eq. 4).

    Args:
        hr: [N, H, W, 3] in [-1, 1].
        sr: Likewise, same dtype.

    Returns:
        [N].
    """
    return ops.mean(ops.square(hr - sr), axis=(1, 2, 3))


def pixel_l1(hr: Any, sr: Any) -> Any:
    """Mean absolute error, as `pixel_mse`."""
    return ops.mean(ops.abs(hr - sr), axis=(1, 2, 3))


def content(hr_features: Any, sr_features: Any) -> Any:
    """Mean squared difference of VGG features (eq. 5) from `vgg.FeatureExtractor`.

    The extractor scales the features by 1/12.75. This scales the loss by (1/12.75)^2 = 0.00615,
    the paper's factor of 0.006. Equation 5 divides by the width and the height of the feature maps
    and does not say whether it sums over the C channels (128 for VGG22, 512 for VGG54). This is
    the mean over positions and channels; a sum would be C times larger. The size depends on the
    layer: the loss of VGG22 is thousands of times the pixel MSE.

    Args:
        hr_features: [N, h, w, C], float32.
        sr_features: Likewise.

    Returns:
        [N].
    """
    return ops.mean(ops.square(hr_features - sr_features), axis=(1, 2, 3))


def adversarial(sr_logits: Any) -> Any:
    """The generator's adversarial loss -log D(SR) (eq. 6), as softplus(-logit).

    Args:
        sr_logits: [N, ...]; positive means that the discriminator calls SR "real".

    Returns:
        [N]: means over an image's logits.
    """
    return image_means(ops.softplus(-sr_logits))


def discriminator(hr_logits: Any, sr_logits: Any) -> Any:
    """The discriminator's loss -log D(HR) - log(1 - D(SR)) (eq. 2), from logits.

    Args:
        hr_logits: [N, ...].
        sr_logits: Likewise.

    Returns:
        [N]: means over an image's logits.
    """
    return image_means(ops.softplus(-hr_logits) + ops.softplus(sr_logits))


def total_variation(sr: Any) -> Any:
    """Mean absolute difference of vertical neighbours plus that of horizontal neighbours.

    Args:
        sr: [N, H, W, 3], H and W at least 2.

    Returns:
        [N].
    """
    down = ops.mean(ops.abs(sr[:, 1:] - sr[:, :-1]), axis=(1, 2, 3))
    right = ops.mean(ops.abs(sr[:, :, 1:] - sr[:, :, :-1]), axis=(1, 2, 3))
    return down + right


def image_means(values: Any) -> Any:
    """[N, ...] -> [N]: the mean over all axes but the first."""
    return ops.mean(values, axis=tuple(range(1, len(values.shape))))
