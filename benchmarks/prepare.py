"""prepare against the usual way: seconds, memory, bytes, and what the whole of DIV2K takes.

python -m benchmarks.prepare [--images FOLDER [--whole]] [--count 16] [--size 2040x1356]
                             [--rounds 3] [--cores C]

Both sides read the same images on the same cores and write to an empty folder of the same disk. The
images are mosaics of DIV2K's size, cut from a folder's photographs, or those as they are (--whole).
Ours is the whole job: MATLAB's kernel, shards that are written, synced to disk, hashed and read
back, and the manifest. The usual way (usual_way.py) has a cheaper kernel and syncs nothing.

`seconds` starts when the workers run and have imported their modules, as for all but the first
images of DIV2K. `start_seconds` is the time to start Ray, or the pool, and for those imports.
`cpu_seconds` counts all processes, Ray's own too. `times_usual` compares `seconds`, and
`times_usual_with_start` the sums, for so few images. DIV2K's figures follow from the pairs a second
of `_4x_images`.
"""

import argparse
import logging
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.common import (
    FORMATS,
    Figures,
    add_size,
    data_settings,
    describe_images,
    folder_bytes,
    image_files,
    medians,
    print_result,
)
from benchmarks.usage import cpu_seconds, family, peak_megabytes, title
from benchmarks.usual_way import cut_images, processes
from data_pipeline.platform.storage import open_storage
from data_pipeline.prepare.build import prepare
from data_pipeline.prepare.parts import Part, build_part
from data_pipeline.prepare.sources import open_source
from data_pipeline.shards import ShardFormat

_DIV2K_PAIRS = 32_592  # 480/240 on its 800 training images
_DIV2K_VALID = 100

_T = TypeVar("_T")


def main() -> None:
    """Measures all in turn, `--rounds` times, and prints the medians."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.prepare")
    parser.add_argument("--images", help="default: scikit-image's photographs")
    parser.add_argument("--whole", action="store_true", help="take the images as they are")
    parser.add_argument("--count", type=int, default=16, help="of mosaics")
    add_size(parser)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args()
    result: dict[str, Any] = {"cores": args.cores, "load_before": os.getloadavg()[0]}
    runs: dict[str, list[Figures]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        count = 0 if args.whole else args.count
        files = image_files(args.images, root / "mosaics", count, args.size)
        sources = {
            "": _linked(files, root / "source", 1),
            "_4x_images": _linked(files, root / "source-4x", 4),
        }
        for _ in range(args.rounds):
            runs["usual"].append(_usual(sources[""], root, args.cores))
            for kind in FORMATS:
                for suffix, found in _alone(_ours, kind, sources, root, args.cores).items():
                    runs[kind + suffix].append(found)
        valid = _alone(_valid, sources[""], root)
        result |= describe_images(files)
    for name, rounds in runs.items():
        times = 4 if name.endswith("4x_images") else 1
        result[name] = _rates(rounds, times * result["megapixels"])
    for kind in FORMATS:
        ours = result[kind]
        ours["times_usual"] = result["usual"]["seconds"] / ours["seconds"]
        ours["times_usual_with_start"] = _total(result["usual"]) / _total(ours)
        result[f"{kind}_div2k"] = _div2k(result[f"{kind}_4x_images"], valid, args.cores)
    print_result(result)


def _rates(runs: list[Figures], megapixels: float) -> dict[str, Any]:
    found = medians(runs)
    return {
        **found,
        "seconds_of_rounds": [run["seconds"] for run in runs],
        "pairs_per_second": found["pairs"] / found["seconds"],
        "megapixels_per_second": megapixels / found["seconds"],
    }


def _total(figures: Figures) -> float:
    return figures["start_seconds"] + figures["seconds"]


def _div2k(ours: Figures, valid: Figures, cores: int) -> Figures:
    """Extrapolates to 800 training images and 100 validation pairs."""
    core_seconds = cores * _DIV2K_PAIRS / ours["pairs_per_second"]
    return {
        "train_gigabytes": _DIV2K_PAIRS * ours["bytes"] / ours["pairs"] / 1e9,
        "valid_gigabytes": _DIV2K_VALID * valid["bytes"] / 1e9,
        "minutes_on_one_core": (core_seconds + _DIV2K_VALID * valid["seconds"]) / 60,
    }


def _linked(files: list[Path], folder: Path, times: int) -> Path:
    """A folder that holds each file so many times, under different names."""
    folder.mkdir()
    for number in range(times):
        for file in files:
            (folder / f"{file.stem}-{number}{file.suffix}").symlink_to(file.resolve())
    return folder


def _usual(source: Path, root: Path, cores: int) -> Figures:
    begin = time.perf_counter()
    with processes(cores) as pool:
        start = time.perf_counter() - begin

        def job(folder: Path) -> int:
            return cut_images(pool, sorted(source.iterdir()), folder)

        return {"start_seconds": start, **_timed(job, root)}


def _alone(function: Callable[..., _T], *arguments: object) -> _T:
    """Calls it in a process of its own: Ray starts anew, and so does the memory's peak."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def _ours(
    kind: ShardFormat, sources: dict[str, Path], root: Path, cores: int
) -> dict[str, Figures]:
    """Figures of every source, the small one first, as memory is the most so far."""
    import ray

    def job(folder: Path, source: Path) -> int:
        return prepare(data_settings(kind, source), str(folder)).num_patches

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    begin = time.perf_counter()
    ray.init("local", num_cpus=cores, include_dashboard=False, logging_level=logging.ERROR)
    start = time.perf_counter() - begin
    jobs = {suffix: partial(job, source=source) for suffix, source in sources.items()}
    first = _timed(jobs[""], root)["seconds"]  # the workers import their modules
    result: dict[str, Figures] = {}
    for suffix, again in jobs.items():
        figures = _timed(again, root)
        workers = [peak_megabytes(pid) for pid in family() if title(pid).startswith("ray::")]
        result[suffix] = {
            **figures,
            "worker_peak_mb": max(workers),
            "driver_and_workers_peak_mb": peak_megabytes(os.getpid()) + sum(workers),
        }
    start += first - result[""]["seconds"]
    ray.shutdown()
    return {suffix: {"start_seconds": start, **figures} for suffix, figures in result.items()}


def _timed(job: Callable[[Path], int], root: Path) -> Figures:
    with tempfile.TemporaryDirectory(dir=root) as name:
        folder = Path(name)
        os.sync()  # so that nobody pays for what another wrote
        start, cpu = time.perf_counter(), cpu_seconds()
        pairs = job(folder)
        return {
            "seconds": time.perf_counter() - start,
            "cpu_seconds": cpu_seconds() - cpu,
            "pairs": pairs,
            "bytes": folder_bytes(folder),
        }


def _valid(source: Path, root: Path) -> Figures:
    """Means over validation pairs on one core."""
    images = open_source(str(source), "valid", scale=4)
    count = min(8, len(images.images))
    settings = data_settings("arrow", source)
    with tempfile.TemporaryDirectory(dir=root) as folder:
        start = time.perf_counter()
        for image in images.images[:count]:
            task = Part(f"valid/{image.name}", images._replace(images=(image,)), is_shard=False)
            build_part(task, settings, open_storage(folder))
        seconds = time.perf_counter() - start
        size = folder_bytes(Path(folder))
    return {"seconds": seconds / count, "bytes": size / count}


if __name__ == "__main__":
    main()
