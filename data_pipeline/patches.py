"""An aligned HR/LR image pair -> aligned patches. Pure functions."""

from collections.abc import Iterator
from typing import NamedTuple

from data_pipeline.images import Image


class Patch(NamedTuple):
    """Aligned patches, uint8 [P, P, 3] and [P / scale, P / scale, 3].

    `top` and `left` say where HR was cut, in pixels of its image.
    """

    top: int
    left: int
    hr: Image
    lr: Image


def crop_to_multiple(image: Image, scale: int) -> Image:
    """Cuts the bottom and the right so that both sides are multiples of `scale`.

    Args:
        image: [H, W, ...].
        scale: The super-resolution factor.

    Returns:
        A view [H - H % scale, W - W % scale, ...].
    """
    height, width = image.shape[:2]
    return image[: height - height % scale, : width - width % scale]


def is_pair(hr: Image, lr: Image, scale: int) -> bool:
    """Whether HR [H, W, C] has `scale` times the sides of LR [h, w, C], and as many channels."""
    return hr.shape == (lr.shape[0] * scale, lr.shape[1] * scale, *lr.shape[2:])


def patch_offsets(length: int, patch_size: int, stride: int) -> list[int]:
    """Offsets of the patches along one axis, in HR pixels.

    A regular grid, and one more patch at the far edge where the grid leaves a rest: every pixel is
    covered. On DIV2K's 800 training images 480/240 gives 32,592 patches.

    Args:
        length: Length of the axis.
        patch_size: Length of a patch.
        stride: Distance between neighbouring patches.

    Returns:
        Ascending offsets; empty where the axis is shorter than a patch.
    """
    offsets = list(range(0, length - patch_size + 1, stride))
    if offsets and offsets[-1] + patch_size < length:
        offsets.append(length - patch_size)
    return offsets


def aligned_patches(
    hr: Image, lr: Image, *, scale: int, patch_size: int, stride: int
) -> Iterator[Patch]:
    """Cuts an aligned pair into aligned patches, row by row.

    Args:
        hr: uint8 [H, W, 3], both sides multiples of `scale`.
        lr: uint8 [H / scale, W / scale, 3].
        scale: The super-resolution factor.
        patch_size: HR patch side, a multiple of `scale`.
        stride: HR stride, a multiple of `scale`.

    Yields:
        Patches whose pixels are views of `hr` and `lr`.

    Raises:
        ValueError: If the shapes do not belong together or a length is no multiple of `scale`.
    """
    if patch_size % scale or stride % scale:
        raise ValueError(
            f"patch_size {patch_size} and stride {stride} must be multiples of {scale}"
        )
    if not is_pair(hr, lr, scale):
        raise ValueError(f"HR {hr.shape} is not {scale} times LR {lr.shape}")
    small = patch_size // scale
    for top in patch_offsets(hr.shape[0], patch_size, stride):
        for left in patch_offsets(hr.shape[1], patch_size, stride):
            y, x = top // scale, left // scale
            yield Patch(
                top,
                left,
                hr[top : top + patch_size, left : left + patch_size],
                lr[y : y + small, x : x + small],
            )
