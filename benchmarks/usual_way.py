"""The usual way, to compare with: worker processes cut sub-images to PNG files and read them.

It cuts as BasicSR's `extract_subimages.py` does (480/240, the last one at the edge, PNG compression
3) and reads as its paired data set does (an HR and an LR file for each crop, flips and turns). Each
core has one process with one OpenCV thread, and a pool that always has work for it.
"""

import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from benchmarks.common import PATCH, PNG, SCALE, STRIDE, read
from data_pipeline.images import Image
from data_pipeline.patches import aligned_patches, crop_to_multiple


def processes(count: int) -> ProcessPoolExecutor:
    """So many worker processes, once all have imported what they need."""
    context = get_context("spawn")
    barrier = context.Barrier(count + 1, timeout=600)
    pool = ProcessPoolExecutor(count, context, _start, (barrier,))
    for _ in range(count):
        pool.submit(len, "")  # each starts a process, as none is idle before the barrier
    barrier.wait()
    return pool


def cut_images(pool: ProcessPoolExecutor, files: Sequence[Path], folder: Path) -> int:
    """Every image -> HR and LR sub-images as PNG files below `folder`.

    LR is made by OpenCV's cubic: 2 ms an image, less than it takes to read an LR file.

    Returns:
        The number of pairs.
    """
    for name in ("hr", "lr"):
        (folder / name).mkdir()
    return sum(pool.map(_cut, [(file, folder) for file in files]))


class Crops(NamedTuple):
    """Where batches come from, their size, and their HR crops' side in pixels."""

    folder: Path
    batch: int
    hr_crop: int


def batches(pool: ProcessPoolExecutor, crops: Crops, count: int) -> Iterator[tuple[Image, Image]]:
    """Random batches, LR and HR uint8 RGB [batch, side, side, 3], read ahead by the processes.

    They reach this process through pipes: one of the 70 ms that a batch of 16 takes.
    """
    names = sorted(file.name for file in (crops.folder / "hr").iterdir())
    draw = random.Random(0)  # noqa: S311
    tasks = [(crops, draw.choices(names, k=crops.batch), seed) for seed in range(count)]
    return pool.map(_read_batch, tasks)


def _start(barrier: Barrier) -> None:
    cv2.setNumThreads(1)
    barrier.wait()


def _cut(task: tuple[Path, Path]) -> int:
    file, folder = task
    hr = crop_to_multiple(read(file), SCALE)
    size = (hr.shape[1] // SCALE, hr.shape[0] // SCALE)
    lr = np.asarray(cv2.resize(hr, size, interpolation=cv2.INTER_CUBIC), np.uint8)
    number = 0
    for _, _, *pair in aligned_patches(hr, lr, scale=SCALE, patch_size=PATCH, stride=STRIDE):
        for name, patch in zip(("hr", "lr"), pair, strict=True):
            cv2.imwrite(str(folder / name / f"{file.stem}_s{number:03}.png"), patch, PNG)
        number += 1
    return number


def _read_batch(task: tuple[Crops, list[str], int]) -> tuple[Image, Image]:
    crops, names, seed = task
    draw = random.Random(seed)  # noqa: S311
    side = crops.hr_crop // SCALE
    lr_batch: list[Image] = []
    hr_batch: list[Image] = []
    for name in names:
        lr, hr = (read(crops.folder / kind / name) for kind in ("lr", "hr"))
        top, left = (draw.randint(0, length - side) for length in lr.shape[:2])
        flip, turns = draw.randrange(2), draw.randrange(4)
        for image, factor, batch in ((lr, 1, lr_batch), (hr, SCALE, hr_batch)):
            y, x, length = top * factor, left * factor, side * factor
            crop = image[y : y + length, x : x + length, ::-1]  # OpenCV's BGR -> RGB
            batch.append(np.rot90(crop[:, ::-1] if flip else crop, turns))
    return np.stack(lr_batch), np.stack(hr_batch)
