"""The networks, batches and programs that `benchmarks.gpu` measures."""

import argparse
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from benchmarks.common import image_files, read
from benchmarks.jax_step import Trainer
from data_pipeline.imresize import imresize
from srgan.config import VggName
from srgan.vgg import FeatureExtractor
from srgan.vgg_layers import weight_shapes

SCALE = 4


def sizes(args: argparse.Namespace) -> dict[str, Any]:
    """Arguments of the networks, by their names."""
    return {
        "generator": {"blocks": args.blocks, "filters": args.filters},
        "discriminator": {"filters": args.filters, "dense": args.dense},
    }


def extractor(name: VggName, weights: str | None) -> FeatureExtractor:
    """An extractor with weights of a file, else random ones."""
    if weights:
        with np.load(weights) as arrays:
            return FeatureExtractor(name, dict(arrays))
    draw = np.random.default_rng(0)
    shapes = weight_shapes(name)
    return FeatureExtractor(
        name,
        {
            key: draw.normal(0, math.sqrt(2 / math.prod(shape[:-1])), shape).astype(np.float32)
            for key, shape in shapes.items()
        },
    )


def trainer_of(
    args: argparse.Namespace,
    losses: dict[str, float],
    weights: str | None = None,
    *,
    rate: float = 1e-4,
    seed: int = 0,
) -> Any:
    """A Trainer in the current policy."""
    names: tuple[VggName, ...] = ("vgg22", "vgg54")
    return Trainer(
        sizes=sizes(args),
        hr_crop=args.hr_crop,
        losses=losses,
        rate=rate,
        extractors={name: extractor(name, weights) for name in names if name in losses},
        seed=seed,
    )


def photographs_of(args: argparse.Namespace) -> tuple[Any, Any]:
    """LR and HR, uint8, the centre 256 pixels of each photograph, on the device."""
    hr = []
    for file in image_files(args.photographs, Path(), 0, (0, 0)):
        image = read(file)[..., ::-1]
        top, left = ((length - 256) // 2 for length in image.shape[:2])
        hr.append(np.ascontiguousarray(image[top : top + 256, left : left + 256]))
    lr = [imresize(image, 1 / SCALE) for image in hr]
    return jnp.asarray(np.stack(lr)), jnp.asarray(np.stack(hr))


def corners_of(args: argparse.Namespace, images: int, steps: int, batch: int, seed: int) -> Any:
    """Positions of LR crops, int32 [steps, batch, 3]: image, row, column."""
    draw = np.random.default_rng(seed)
    most = 256 // SCALE - args.hr_crop // SCALE
    corners = draw.integers(0, (images, most + 1, most + 1), (steps, batch, 3), dtype=np.int32)
    return jnp.asarray(corners)


def compile_all(lowered: list[Any]) -> list[Any]:
    """Compiles side by side: one program takes half a minute, most of it on one core."""
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(lambda one: one.compile(), lowered))
