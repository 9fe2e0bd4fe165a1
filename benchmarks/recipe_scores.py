"""Scores of generators that lie on a device: PSNR, LPIPS by AlexNet, and Grid."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np
from jax import lax

from benchmarks.common import SCALE, Figures, read
from data_pipeline.images import SUFFIXES, Image
from data_pipeline.imresize import imresize
from srgan.evaluation.grid import grid
from srgan.evaluation.psnr_ssim import luma, psnr
from srgan.lpips import alexnet_weights, lpips

_INNER = slice(SCALE, -SCALE)  # the border is cut


class Photographs:
    """Photographs with their LR, by size, and how SR of them scores."""

    def __init__(self, folder: Path) -> None:
        """Reads a folder of HR, or one with HR/ and LR_x4/."""
        high = folder / "HR" if (folder / "HR").is_dir() else folder
        by_size: dict[Any, list[tuple[Image, Image]]] = {}
        for file in sorted(one for one in high.iterdir() if one.suffix in SUFFIXES):
            hr = _rgb(file)
            given = folder / "LR_x4" / file.name
            lr = _rgb(given) if high != folder else imresize(hr, 1 / SCALE)
            by_size.setdefault(hr.shape, []).append((lr, hr))
        self._groups = [
            tuple(np.stack(images) for images in zip(*pairs, strict=True))
            for pairs in by_size.values()
        ]
        self._alexnet = {name: jnp.asarray(one) for name, one in alexnet_weights().items()}

    def score(self, network: keras.Model, weights: Sequence[Any]) -> Figures:
        """Means over the photographs of `psnr_y`, `psnr_rgb`, `lpips`, `grid`."""
        values: list[Figures] = []
        for lr, hr in self._groups:
            sr, distances = _upscaled(network)(weights, lr, hr, self._alexnet)
            with ThreadPoolExecutor() as pool:
                found = list(pool.map(_measures, hr, np.asarray(sr)))
            pairs = zip(found, np.asarray(distances).tolist(), strict=True)
            values += [one | {"lpips": distance} for one, distance in pairs]
        return {name: float(np.mean([one[name] for one in values])) for name in values[0]}


@cache
def _upscaled(network: keras.Model) -> Any:
    """(weights, LR, HR, AlexNet) -> SR uint8 and LPIPS [N], compiled for a network and size."""
    return jax.jit(partial(_one_by_one, network))


def _one_by_one(network: keras.Model, weights: Any, lr: Any, hr: Any, alexnet: Any) -> Any:
    def one(pair: tuple[Any, Any]) -> tuple[Any, Any]:
        inputs = pair[0][None].astype("float32") / 255
        sr = network.stateless_call(weights, [], inputs, training=False)[0]
        levels = jnp.clip(jnp.round((sr + 1) * 127.5), 0, 255)
        first, second = (
            part[:, _INNER, _INNER].astype("float32") / 127.5 - 1
            for part in (pair[1][None], levels)
        )
        return levels[0].astype("uint8"), lpips(first, second, alexnet, "AlexNet")[0]

    return lax.map(one, (lr, hr))


def _measures(hr: Image, sr: Image) -> Figures:
    one, other = (image[_INNER, _INNER].astype(np.float64) for image in (hr, sr))
    value = grid(hr, sr, scale=SCALE)
    assert value is not None
    rgb, y = psnr(one, other), psnr(luma(one), luma(other))
    return {"psnr_y": y, "psnr_rgb": rgb, "grid": value}


def _rgb(file: Path) -> Image:
    return np.ascontiguousarray(read(file)[..., ::-1])
