"""How long a GPU would wait for data: loaders whose consumer sleeps as long as a GPU computes.

python -m benchmarks.data_wait [--images FOLDER] [--count 30] [--size 2040x1356] [--workers 1 4]
                               [--steps 16:2 256:12] [--seconds 10] [--rounds 3]

Each worker is a process with one replica, as `jobs.train` starts them by default. It takes its
batches inside a tf.function, as training does, and sleeps between two of them. `--steps` are
examples of a batch for each worker, and milliseconds of its step: those that an H100 is expected to
need in the pretrain phase. The figures of a case are means over its workers, and medians over the
rounds:

- `data_wait_share`: waiting for the next batch, as a share of all time;
- `crops_per_second`, `crops_per_second_needed`: of one worker; needed if it never waited;
- `cpu_microseconds_per_crop`, `crops_per_second_per_core`: by the CPU time of a worker's process.

A worker needs `crops_per_second_needed` / `crops_per_second_per_core` cores. With more workers than
cores they wait for a core, too: then only the CPU time tells. All shards are in the page cache,
opened and verified.
"""

import argparse
import os
import tempfile
import time
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.common import (
    Figures,
    add_size,
    data_settings,
    describe_images,
    image_files,
    medians,
    print_result,
)
from data_pipeline.manifest import require_manifest
from data_pipeline.platform.cluster import ray_session
from data_pipeline.platform.storage import open_storage
from data_pipeline.prepare.build import prepare

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

_HR_CROP = 96
_WARM_UP_STEPS = 5

_barrier: Barrier


class _Case(NamedTuple):
    """What is measured: workers, the batch of each, the seconds of its step."""

    workers: int
    batch: int
    step_seconds: float


def main() -> None:
    """Measures all cases in turn, `--rounds` times, and prints the medians."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.data_wait")
    parser.add_argument("--images", help="default: scikit-image's photographs")
    parser.add_argument("--count", type=int, default=30, help="of images")
    add_size(parser)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--steps", nargs="+", default=["16:2", "256:12"])
    parser.add_argument("--seconds", type=float, default=10, help="of a measurement")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    cases = [
        _Case(workers, int(batch), float(milliseconds) / 1000)
        for batch, milliseconds in (step.split(":") for step in args.steps)
        for workers in args.workers
    ]
    result: dict[str, Any] = {"cores": os.cpu_count(), "load_before": os.getloadavg()[0]}
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        files = image_files(args.images, root / "images", args.count, args.size)
        result |= describe_images(files)
        with ray_session():
            settings = data_settings("arrow", root / "images")
            result["pairs"] = prepare(settings, str(root / "data")).num_patches
        rounds = [
            [_measure(root / "data", case, args.seconds) for case in cases]
            for _ in range(args.rounds)
        ]
    result["cases"] = [medians(found) for found in zip(*rounds, strict=True)]
    print_result(result)


def _measure(data: Path, case: _Case, seconds: float) -> Figures:
    """Runs a case's workers side by side."""
    context = get_context("spawn")
    barrier = context.Barrier(case.workers)
    with context.Pool(case.workers, _start, (barrier,)) as pool:
        tasks = [(data, case, seconds, rank) for rank in range(case.workers)]
        # One task each: the barrier holds a process until all have one.
        found = pool.starmap(_work, tasks, chunksize=1)
    share, rate, cpu = (sum(one[name] for one in found) / len(found) for name in found[0])
    return {
        "workers": case.workers,
        "batch": case.batch,
        "step_milliseconds": 1000 * case.step_seconds,
        "data_wait_share": share,
        "crops_per_second": rate,
        "crops_per_second_needed": case.batch / case.step_seconds,
        "cpu_microseconds_per_crop": cpu,
        "crops_per_second_per_core": 1e6 / cpu,
    }


def _start(barrier: Barrier) -> None:
    global _barrier  # noqa: PLW0603  # a pool's processes inherit it, tasks cannot carry it
    _barrier = barrier


def _work(data: Path, case: _Case, seconds: float, rank: int) -> Figures:
    """One worker: takes batches, and sleeps between them, for so many seconds."""
    import tensorflow as tf

    from data_pipeline.loading.dataset import Batches
    from data_pipeline.loading.patch_set import PatchSet

    storage = open_storage(str(data))
    manifest = require_manifest(storage)
    patches = PatchSet(storage, manifest)
    for patch_id in range(len(patches)):  # opens and verifies all shards
        patches.pair(patch_id)
    batches = Batches(
        patches, manifest, seed=0, global_batch=case.workers * case.batch, hr_crop=_HR_CROP
    )
    steps = max(1, round(seconds / case.step_seconds))
    dataset = batches.dataset(
        start=0, stop=_WARM_UP_STEPS + steps, replicas=[rank], num_replicas=case.workers
    )
    iterator, clock = iter(dataset), iter(_clock(case.step_seconds))

    def loop(count: tf.Tensor) -> tf.Tensor:
        waited = tf.constant(0.0, tf.float64)
        for _ in tf.range(count):
            began = tf.timestamp()
            with tf.control_dependencies([began]):
                batch = next(iterator)
            with tf.control_dependencies(batch):
                waited += tf.timestamp() - began
            with tf.control_dependencies([waited]):
                next(clock)
        return waited

    take = tf.function(loop)
    take(tf.constant(_WARM_UP_STEPS)).numpy()
    _barrier.wait()
    start, cpu = time.perf_counter(), time.process_time()
    waited = float(take(tf.constant(steps)))
    spent, cpu = time.perf_counter() - start, time.process_time() - cpu
    crops = steps * case.batch
    return {
        "data_wait_share": waited / spent,
        "crops_per_second": crops / spent,
        "cpu_microseconds_per_crop": 1e6 * cpu / crops,
    }


def _clock(seconds: float) -> Any:
    """An endless dataset that sleeps before each element. TensorFlow's own sleep needs no Python.

    Python's would wait for the lock that the loader holds, and so be longer.
    """
    import tensorflow as tf

    sleeping = tf.raw_ops.SleepDataset(
        input_dataset=tf.data.experimental.to_variant(tf.data.Dataset.counter()),
        sleep_microseconds=tf.constant(round(1e6 * seconds), tf.int64),
        output_types=[tf.int64],
        output_shapes=[tf.TensorShape([])],
    )
    clock = tf.data.experimental.from_variant(sleeping, tf.TensorSpec([], tf.int64))
    options = tf.data.Options()
    options.autotune.enabled = False  # it would sleep ahead
    options.experimental_optimization.apply_default_optimizations = False
    return clock.with_options(options)


if __name__ == "__main__":
    main()
