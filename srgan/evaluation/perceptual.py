"""Measures by networks: VGG features, LPIPS, and NIQE where pyiqa is installed.

A measure that cannot be made is left out of the values; it never becomes a number.
"""

import logging
from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from typing import TYPE_CHECKING

import numpy as np

from data_pipeline.images import Image, as_rgb
from data_pipeline.platform.storage import open_storage
from srgan.config import VggName
from srgan.evaluation.measures import Values, taken

if TYPE_CHECKING:
    from srgan.vgg import FeatureExtractor

_VGG_CROP = 256  # whole images would take as long as the generator
_NIQE_SIDE = 192  # NIQE needs statistics of several blocks of 96 pixels

_log = logging.getLogger(__name__)


@lru_cache(maxsize=1)
def run_extractors(run_uri: str, names: tuple[VggName, ...]) -> "dict[str, FeatureExtractor]":
    """VGG feature extractors with a run's own weights."""
    if not names:
        return {}
    from srgan.vgg import FeatureExtractor
    from srgan.vgg_weights import read_vgg_weights

    weights = read_vgg_weights(open_storage(run_uri))
    return {name: FeatureExtractor(name, weights) for name in names}


def vgg_distances(hr: Image, image: Image, extractors: "Mapping[str, FeatureExtractor]") -> Values:
    """The content loss (Ledig et al. 2017, eq. 5) of an image's centre, by extractor.

    Args:
        hr: uint8 [H, W, 1 or 3].
        image: uint8, of the same shape.
        extractors: By name; without extractors the result is empty.

    Returns:
        Mean squared difference of the features, scaled by 1/12.75, over positions and channels.
    """
    if not extractors:
        return {}
    from srgan.losses import content

    one, other = (
        as_rgb(_centre(picture, _VGG_CROP))[None].astype(np.float32) / 127.5 - 1
        for picture in (hr, image)
    )
    return {
        name: float(np.asarray(content(extractor(one), extractor(other)))[0])
        for name, extractor in extractors.items()
    }


def lpips_value(hr: Image, image: Image, *, border: int) -> Values:
    """`lpips` of an image and its HR; nothing if they are too small for it.

    Args:
        hr: uint8 [H, W, 1 or 3]. Grey is measured as RGB.
        image: uint8, of the same shape.
        border: Pixels to cut from every side, as for PSNR.
    """
    from srgan.lpips import alexnet_lpips

    inner = slice(border, -border)
    return taken(lpips=alexnet_lpips(*(as_rgb(one[inner, inner]) for one in (hr, image))))


def niqe_value(image: Image) -> Values:
    """`niqe` (Mittal et al. 2013) of an image uint8 [H, W, 1 or 3], by pyiqa.

    Nothing where pyiqa is not installed, its weights cannot be downloaded, or the image is too
    small for it.
    """
    metric = _niqe()
    return {"niqe": metric(image)} if metric and min(image.shape[:2]) >= _NIQE_SIDE else {}


@cache
def _niqe() -> Callable[[Image], float] | None:
    """NIQE of uint8 images; None if it cannot be used, with a line in the log for its weights."""
    try:
        import pyiqa
        import torch
    except ImportError:
        return None
    try:
        metric = pyiqa.create_metric("niqe", device="cpu")
    except OSError as error:  # pyiqa downloads the weights when they are first used
        _log.warning("niqe: left out, its weights cannot be had: %s", error)
        return None

    def measure(image: Image) -> float:
        values = as_rgb(image).transpose(2, 0, 1)[None].astype(np.float32) / 255
        with torch.no_grad():
            return float(metric(torch.from_numpy(values)))

    return measure


def _centre(image: Image, side: int) -> Image:
    height, width = (min(length, side) for length in image.shape[:2])
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]
