"""What an evaluation costs in addition to its generator, and the memory that a large image takes.

python -m benchmarks.evaluate [--photographs FOLDER] [--images 100] [--scored 2]

The images have DIV2K's size. `jobs.evaluate` scores the baselines on `--images` of them. In this
process the paper's generator, with random weights, upscales `--scored` of them, and they are
scored with distances of VGG22 features. Another process does the same with one image of 4080x2712.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from benchmarks.common import (
    Figures,
    add_size,
    describe_images,
    image_files,
    medians,
    print_result,
    read,
)
from benchmarks.usage import peak_megabytes
from data_pipeline.platform.storage import open_storage
from srgan.config_file import dump_config, load_config
from srgan.evaluation import score_task
from srgan.evaluation.benchmark import folder_benchmark
from srgan.evaluation.run_reader import find_generators, open_run
from srgan.run_layout import CONFIG_KEY, DATASET_KEY, VGG_KEY, generator_key

_ROOT = Path(__file__).parent.parent
_DISTINCT = 20
_CPUS = min(4, os.cpu_count() or 1)  # of a task


def main() -> None:
    """Runs the measurements and prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photographs")
    add_size(parser)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--scored", type=int, default=2)
    parser.add_argument("--large", nargs=2, type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    os.environ["TF_NUM_INTRAOP_THREADS"] = str(_CPUS)  # before TensorFlow is imported
    if args.large:
        score_task.score_image(_task(args.large[0], args.large[1], 0))
        print(peak_megabytes(os.getpid()))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        distinct = min(_DISTINCT, args.images)
        files = image_files(args.photographs, folder / "distinct", distinct, args.size)
        hr = folder / "hr"
        hr.mkdir()
        for number in range(args.images):
            (hr / f"{number:04}.png").hardlink_to(files[number % len(files)])
        result: dict[str, Any] = {
            "cpus": os.cpu_count(),
            "baseline_images": args.images,
            **describe_images(files[:1]),
            "baselines_seconds": _baselines(hr, folder / "out"),
            **medians([_score(folder / f"run-{one}", hr, one) for one in range(args.scored)]),
            **_large(folder, files[0]),
        }
    print_result(result)


def _baselines(hr: Path, out: Path) -> float:
    """Seconds of the whole job, Ray's start included."""
    start = time.monotonic()
    command = [sys.executable, "-m", "jobs.evaluate", "--hr", str(hr), "--out", str(out)]
    subprocess.run(command, cwd=_ROOT, check=True, stdout=subprocess.DEVNULL)  # noqa: S603
    return time.monotonic() - start


def _score(run: Path, hr: Path, number: int) -> Figures:
    """Seconds of the generator, and of all else that an image takes, once compiled."""
    spent = []
    upscale_pair = vars(score_task)["upscale_pair"]

    def timed(*arguments: Any) -> Any:
        start = time.monotonic()
        image = upscale_pair(*arguments)
        spent.append(time.monotonic() - start)
        return image

    task = _task(run, hr, number)
    with mock.patch.object(score_task, "upscale_pair", timed):
        score_task.score_image(task)  # compiles
        start = time.monotonic()
        score_task.score_image(task)
        total = time.monotonic() - start
    return {
        "generator_seconds": spent[-1],
        "other_seconds": total - spent[-1],
        "other_over_generator": (total - spent[-1]) / spent[-1],
    }


def _task(run: Path, hr: Path, number: int) -> score_task.ScoreTask:
    """A task that scores an image by the paper's generator, of a RUN that is made for it."""
    import keras

    from srgan.generator_file import save_generator
    from srgan.networks import generator
    from srgan.vgg_layers import weight_shapes

    config = load_config(_ROOT / "configs/paper.yaml")
    storage = open_storage(str(run))
    storage.write(CONFIG_KEY, dump_config(config).encode())
    storage.write(DATASET_KEY, b'{"uri": "none", "manifest_sha256": "none"}')
    keras.utils.set_random_seed(0)
    save_generator(generator(**config.generator.model_dump()), storage, generator_key(1))
    draw = np.random.default_rng(0)
    weights = {
        name: draw.normal(0, 0.05, shape).astype(np.float32)
        for name, shape in weight_shapes("vgg22").items()
    }
    np.savez(run / VGG_KEY, **weights)  # type: ignore[arg-type]
    opened = open_run(str(run))._replace(extractors=("vgg22",))
    (file,) = find_generators(opened)
    benchmark = folder_benchmark(str(hr), None, scale=4, kernel="matlab").part(number, 1)
    out = open_storage(str(run / "evaluation"))
    return score_task.ScoreTask(benchmark, opened, file, out, is_pictured=True, cpus=_CPUS)


def _large(folder: Path, file: Path) -> Figures:
    """Seconds, start included, and memory of a process that scores one image of 4080x2712."""
    import cv2

    hr = folder / "large"
    hr.mkdir()
    cv2.imwrite(str(hr / "large.png"), np.tile(read(file), (2, 2, 1)))
    start = time.monotonic()
    command = [sys.executable, "-m", "benchmarks.evaluate"]
    command += ["--large", str(folder / "large-run"), str(hr)]
    done = subprocess.run(command, cwd=_ROOT, check=True, capture_output=True, text=True)  # noqa: S603
    return {
        "large_image_seconds": time.monotonic() - start,
        "large_image_peak_megabytes": float(done.stdout.splitlines()[-1]),
    }


if __name__ == "__main__":
    main()
