"""Time and memory of upscaling: the whole command on a very large picture, and engines alone.

python -m benchmarks.upscale [--size 6000x4000] [--engine-size 680x452] [--blocks 4 --filters 32]

`jobs.upscale` makes one picture four times as large, as PNG, on this machine's CPU. Its memory is
that of all its processes, Ray's too: the sum of their proportional set sizes, taken five times a
second. Each engine upscales one picture, `--repeats` times, in a process of its own: Keras in
tiles, as `load_generator` does; SavedModel, ONNX and PyTorch whole, with the same weights. Beside
its figures stands how far its levels are from Keras's. An engine that is not installed is skipped,
and the result says so.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import Figures, add_size, image_files, parse_size, print_result, read
from benchmarks.upscale_engines import ENGINES, is_there, open_engine, write_engines
from benchmarks.usage import family, peak_megabytes, proportional_megabytes
from data_pipeline.platform.storage import open_storage

_ROOT = Path(__file__).parent.parent
_KEY = "small.keras"
_SECONDS_BETWEEN_LOOKS = 0.2


def main() -> None:
    """Runs the measurements and prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photographs")
    add_size(parser, default="6000x4000")
    parser.add_argument("--engine-size", type=parse_size, default="680x452")
    parser.add_argument("--blocks", type=int, default=4)
    parser.add_argument("--filters", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--engine", choices=ENGINES, help=argparse.SUPPRESS)
    parser.add_argument("--files", nargs=2, type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.engine:
        print_result(_measure(args.engine, *args.files, repeats=args.repeats))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        weights = _save_generator(folder, args.blocks, args.filters)
        (large,) = image_files(args.photographs, folder / "large", 1, args.size)
        (small,) = image_files(args.photographs, folder / "small", 1, args.engine_size)
        result: dict[str, Any] = {
            "cpus": os.cpu_count(),
            "blocks": args.blocks,
            "filters": args.filters,
            "picture": "{}x{}".format(*args.size),
            **_command(weights, large, folder / "out.png"),
            "engine_picture": "{}x{}".format(*args.engine_size),
            **_engines(weights, small, args.repeats),
        }
    print_result(result)


def _save_generator(folder: Path, blocks: int, filters: int) -> Path:
    """A generator of x4 with random weights."""
    import keras

    from srgan.generator_file import save_generator
    from srgan.networks import generator

    keras.utils.set_random_seed(0)
    network = generator(blocks=blocks, filters=filters, global_skip=True)
    save_generator(network, open_storage(str(folder)), _KEY)
    write_engines(network, folder)
    return folder / _KEY


def _command(weights: Path, picture: Path, out: Path) -> Figures:
    """Seconds of the whole job, Ray's start included, and the most memory of its processes."""
    before = set(family())
    start = time.monotonic()
    words = ["--weights", str(weights), str(picture), str(out)]
    command = [sys.executable, "-m", "jobs.upscale", *words]
    peak = 0.0
    with subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.DEVNULL) as process:  # noqa: S603
        while process.poll() is None:
            peak = max(peak, sum(map(proportional_megabytes, set(family()) - before)))
            time.sleep(_SECONDS_BETWEEN_LOOKS)
    seconds = time.monotonic() - start
    if process.returncode:
        raise SystemExit(f"jobs.upscale ended with {process.returncode}")
    megapixels = 16 * np.prod(read(picture).shape[:2]) / 1e6
    return {
        "sr_megapixels": float(megapixels),
        "job_seconds": seconds,
        "job_megapixels_per_second": float(megapixels) / seconds,
        "job_peak_megabytes": peak,
        "file_megabytes": out.stat().st_size / 1e6,
    }


def _engines(weights: Path, picture: Path, repeats: int) -> dict[str, Any]:
    """The figures of each engine, and how far its SR is from Keras's, in levels."""
    found: dict[str, Any] = {}
    for engine in ENGINES:
        if not is_there(engine):
            found[engine] = "skipped: not installed"
            continue
        found[engine] = _apart(engine, weights, picture, repeats)
        expected, sr = (np.load(_sr(weights, one)) for one in ("keras", engine))
        apart = np.abs(sr.astype(np.int16) - expected)
        found[engine] |= {
            "levels_apart": int(apart.max()),
            "share_apart": float(np.mean(apart > 0)),
        }
    return found


def _sr(weights: Path, engine: str) -> Path:
    """Where an engine's process leaves its SR."""
    return weights.parent / f"sr-{engine}.npy"


def _apart(engine: str, weights: Path, picture: Path, repeats: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.upscale", "--engine", engine]
    command += ["--repeats", str(repeats), "--files", str(weights), str(picture)]
    done = subprocess.run(command, cwd=_ROOT, check=True, capture_output=True, text=True)  # noqa: S603
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _measure(engine: str, weights: Path, picture: Path, *, repeats: int) -> Figures:
    """Megapixels of SR a second, once compiled, and the peak memory of this process."""
    upscale = open_engine(engine, weights)
    lr = np.ascontiguousarray(read(picture)[:, :, ::-1])
    upscale(lr)
    seconds = []
    for _ in range(repeats):
        start = time.monotonic()
        sr = upscale(lr)
        seconds.append(time.monotonic() - start)
    megapixels = sr.shape[0] * sr.shape[1] / 1e6
    np.save(_sr(weights, engine), sr)
    return {
        "megapixels_per_second": megapixels / statistics.median(seconds),
        "peak_megabytes": peak_megabytes(os.getpid()),
    }


if __name__ == "__main__":
    main()
