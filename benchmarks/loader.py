"""Batches from warm shards against the usual way: crop pairs a second on the same cores.

python -m benchmarks.loader [--images FOLDER] [--count 10] [--size 2040x1356] [--steps 3000]
                            [--rounds 5]

Batches of 16 pairs of crops, 96 and 24 pixels a side, flipped and turned, from `--count` images of
DIV2K's size (common.py). Ours is `Batches.dataset(...)` read to its end in one process: by a
tf.function, as training does, and by Python's `for`. The usual way (usual_way.py) has a process a
core, and 30 times fewer steps. All files are in the page cache. An epoch before the measurements
opens and verifies ours: `first_epoch_seconds`.

`_10x_shards` has ten copies of every shard, each a file of its own. `open_1000_shards` is the wait
at the start of a training: the manifest of 1,000 shards (hard links), then the first batch.
"""

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.common import (
    FORMATS,
    Figures,
    add_size,
    data_settings,
    describe_images,
    image_files,
    medians,
    print_result,
)
from benchmarks.usage import cpu_seconds
from benchmarks.usual_way import Crops, batches, cut_images, processes
from data_pipeline.manifest import MANIFEST_KEY, require_manifest
from data_pipeline.platform.cluster import ray_session
from data_pipeline.platform.storage import open_storage
from data_pipeline.prepare.build import prepare

if TYPE_CHECKING:
    from data_pipeline.loading.dataset import Batches

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

_BATCH, _HR_CROP = 16, 96
_USUAL_IS_SLOWER = 30  # times, and makes so many fewer steps


def main() -> None:
    """Measures all in turn, `--rounds` times, and prints the medians."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loader")
    parser.add_argument("--images", help="default: scikit-image's photographs")
    parser.add_argument("--count", type=int, default=10, help="of images")
    add_size(parser)
    parser.add_argument("--steps", type=int, default=3000, help="of a measurement")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    cores = os.cpu_count() or 1
    result: dict[str, Any] = {"cores": cores, "load_before": os.getloadavg()[0]}
    with tempfile.TemporaryDirectory() as name, processes(cores) as pool:
        root = Path(name)
        files = image_files(args.images, root / "images", args.count, args.size)
        crops = Crops(root / "png", _BATCH, _HR_CROP)
        crops.folder.mkdir()
        result |= describe_images(files)
        result["pairs"] = cut_images(pool, files, crops.folder)
        data = _data_sets(root)
        _training()  # loads TensorFlow
        cases = {kind: _Warm(folder) for kind, folder in data.items()}
        cases["arrow_colours_permuted"] = _Warm(data["arrow"], permute_colours=True)
        runs: dict[str, list[Figures]] = {kind: [] for kind in ("usual", *cases)}
        for number in range(args.rounds):
            steps = max(1, args.steps // _USUAL_IS_SLOWER)
            runs["usual"].append(_rate(_read, batches(pool, crops, steps), steps))
            for kind, case in cases.items():
                runs[kind].append(case.rates(number, args.steps))
        linked = [_copies(data["arrow"], root / str(n), 1000, os.link) for n in range(3)]
        opened = [_open(folder)[1] for folder in linked]
    for kind, found in runs.items():
        result[kind] = {
            **medians(found),
            "crops_per_second_of_rounds": [run["crops_per_second"] for run in found],
        }
        rate, usual_rate = (result[name]["crops_per_second"] for name in (kind, "usual"))
        result[kind]["times_usual"] = rate / usual_rate
    result["open_1000_shards"] = medians(opened)
    print_result(result)


def _data_sets(root: Path) -> dict[str, Path]:
    data: dict[str, Path] = {}
    with ray_session():
        for kind in FORMATS:
            data[kind] = root / kind
            shards = len(prepare(data_settings(kind, root / "images"), str(data[kind])).shards)
            more = root / f"{kind}-10x"
            data[f"{kind}_10x_shards"] = _copies(data[kind], more, 10 * shards, shutil.copyfile)
    return data


def _copies(data: Path, folder: Path, shards: int, copy: Callable[[Path, Path], object]) -> Path:
    """A data set with the shards of another, again and again, until there are so many."""
    manifest = require_manifest(open_storage(str(data)))
    (folder / "train").mkdir(parents=True)
    made = []
    for number in range(shards):
        shard = manifest.shards[number % len(manifest.shards)]
        path = f"train/{number:05}{Path(shard.path).suffix}"
        copy(data / shard.path, folder / path)
        made.append(shard.model_copy(update={"path": path}))
    content = manifest.model_copy(update={"shards": tuple(made)}).to_json()
    (folder / MANIFEST_KEY).write_bytes(content)
    return folder


def _open(folder: Path, *, permute_colours: bool = False) -> tuple["Batches", Figures]:
    from data_pipeline.loading.dataset import Batches
    from data_pipeline.loading.patch_set import PatchSet

    start = time.perf_counter()
    storage = open_storage(str(folder))
    manifest = require_manifest(storage)
    manifest_read = time.perf_counter()
    opened = Batches(
        PatchSet(storage, manifest),
        manifest,
        seed=0,
        global_batch=_BATCH,
        hr_crop=_HR_CROP,
        permute_colours=permute_colours,
    )
    _read(_dataset(opened, 0, 1))
    return opened, {
        "shards": len(manifest.shards),
        "gigabytes": manifest.train_bytes / 1e9,
        "pairs": manifest.num_patches,
        "manifest_seconds": manifest_read - start,
        "first_batch_seconds": time.perf_counter() - manifest_read,
    }


class _Warm:
    """A data set whose shards have all been opened and verified."""

    def __init__(self, folder: Path, *, permute_colours: bool = False) -> None:
        start = time.perf_counter()
        self._batches, self._opened = _open(folder, permute_colours=permute_colours)
        _read(_dataset(self._batches, 0, int(self._opened["pairs"]) // _BATCH))
        self._opened["first_epoch_seconds"] = time.perf_counter() - start

    def rates(self, number: int, steps: int) -> Figures:
        """Measures so many steps; they differ from number to number."""
        first = number * steps
        _training()(_dataset(self._batches, first, first + 1))  # builds the graph
        trained, read = (
            _rate(consume, _dataset(self._batches, first, first + steps), steps)
            for consume in (_training(), _read)
        )
        python_for = {"crops_per_second_python_for": read["crops_per_second"]}
        return {**self._opened, **trained, **python_for}


def _dataset(opened: "Batches", start: int, stop: int) -> Any:
    return opened.dataset(start=start, stop=stop, replicas=[0], num_replicas=1)


def _rate(consume: Callable[[Iterable[Any]], object], source: Iterable[Any], steps: int) -> Figures:
    start, cpu = time.perf_counter(), cpu_seconds()
    consume(source)
    seconds, cpu = time.perf_counter() - start, cpu_seconds() - cpu
    crops = steps * _BATCH
    return {"crops_per_second": crops / seconds, "cpu_microseconds_per_crop": 1e6 * cpu / crops}


def _read(source: Iterable[Any]) -> None:
    for lr, hr in source:
        assert len(lr) == len(hr) == _BATCH


@cache
def _training() -> Any:
    """Reads a data set to its end as training does."""
    import tensorflow as tf

    def consume(dataset: Any) -> Any:
        total = tf.constant(0, tf.int64)
        for lr, hr in dataset:
            total += tf.cast(lr[0, 0, 0, 0], tf.int64) + tf.cast(hr[0, 0, 0, 0], tf.int64)
        return total

    return tf.function(consume)


if __name__ == "__main__":
    main()
