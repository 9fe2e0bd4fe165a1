"""What a training step costs, and what Ray, data, logging and checkpoints add to it.

python -m benchmarks.train_step [--photographs FOLDER] [--mosaics 8] [--size 2040x1356] [--rounds 1]
                                [--set KEY=VALUE ...]

It trains the paper's networks (`configs/paper.yaml` and `--set`, as for `jobs.train`) on images of
DIV2K's size, in both phases.
VGG19's weights are random, which costs the same. It measures `jobs.train` without validation
images, and the same compiled steps and batches in a plain loop, without Ray and without saving. An
epoch's figures come from metrics.jsonl. The first epoch of a phase compiles and does not count.
`graphs` is what `benchmarks.step_graph` prints.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import (
    Figures,
    Size,
    add_size,
    data_settings,
    image_files,
    medians,
    print_result,
)
from benchmarks.step_graph import step_graphs
from srgan.config_file import parse_config

_ROOT = Path(__file__).parent.parent
_EPOCHS = {"pretrain": 4, "gan": 2}
_MINUTES_BETWEEN_CHECKPOINTS = 10  # the default


def main() -> None:
    """Runs the rounds and prints the medians of their figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photographs")
    parser.add_argument("--mosaics", type=int, default=8)
    add_size(parser)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--plain", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.plain:
        print(json.dumps(_plain_loop(*args.plain)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _prepare(folder, args.photographs, args.mosaics, args.size)
        rounds = [_round(folder, number, args.set) for number in range(args.rounds)]
        config = parse_config((folder / "run0/config.yaml").read_text(), "config")
        graphs = step_graphs(str(folder / "data"), config.generator.blocks)
    result: dict[str, Any] = {
        "cpus": os.cpu_count(),
        "rounds": args.rounds,
        "global_batch": config.batch.global_batch,
        "hr_crop": config.batch.hr_crop,
    }
    for phase in _EPOCHS:
        result[phase] = medians([one[phase] for one in rounds])
        ratios = [one[phase]["against_without_ray"] for one in rounds]
        result[phase]["against_without_ray_of_rounds"] = ratios
    result["graphs"] = graphs
    print_result(result)


def _prepare(folder: Path, photographs: str | None, mosaics: int, size: Size) -> None:
    from data_pipeline.prepare.build import prepare
    from srgan.vgg_layers import weight_shapes

    image_files(photographs, folder / "images", mosaics, size)
    prepare(data_settings("arrow", folder / "images"), str(folder / "data"))
    draw = np.random.default_rng(0)
    np.savez(
        folder / "vgg.npz",
        **{
            key: draw.normal(0, 0.05, shape).astype(np.float32)
            for key, shape in weight_shapes("vgg54").items()
        },  # type: ignore[arg-type]
    )


def _round(folder: Path, number: int, settings: list[str]) -> dict[str, Figures]:
    run = folder / f"run{number}"
    command = [sys.executable, "-m", "jobs.train", "--config", "configs/paper.yaml"]
    command += ["--data", str(folder / "data"), "--run", str(run)]
    lengths = [
        f"phases.{phase}.{key}={value}"
        for phase, epochs in _EPOCHS.items()
        for key, value in (("steps", "null"), ("epochs", epochs))
    ]
    for setting in (*lengths, f"vgg_weights={folder}/vgg.npz", *settings):
        command += ["--set", setting]
    subprocess.run(command, cwd=_ROOT, check=True)  # noqa: S603
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    command = [sys.executable, "-m", "benchmarks.train_step", "--plain", str(folder), str(run)]
    output = subprocess.run(command, cwd=_ROOT, check=True, capture_output=True, text=True)  # noqa: S603
    plain = json.loads(output.stdout.splitlines()[-1])
    return {phase: _figures(phase, records, plain[phase]) for phase in _EPOCHS}


def _figures(phase: str, records: list[dict[str, Any]], plain: Figures) -> Figures:
    steady = [record for record in records if record["phase"] == phase and record["epoch"] > 1]
    mean = {
        name: float(np.mean([record[name] for record in steady]))
        for name in (
            "seconds_per_step",
            "patches_per_second",
            "outside_seconds_per_step",
            "save_seconds",
        )
    }
    step = mean["seconds_per_step"]
    return {
        "seconds_per_step": step,
        "patches_per_second": mean["patches_per_second"],
        "share_outside_the_compiled_steps": mean["outside_seconds_per_step"] / step,
        "seconds_per_step_without_ray": plain["data"],
        "against_without_ray": step / plain["data"],
        "seconds_per_step_without_ray_and_data": plain["no_data"],
        "share_of_data": 1 - plain["no_data"] / plain["data"],
        "seconds_a_checkpoint_stalls": mean["save_seconds"],
        "share_of_a_checkpoint_every_10_minutes": mean["save_seconds"]
        / (60 * _MINUTES_BETWEEN_CHECKPOINTS),
    }


def _plain_loop(folder: str, run: str) -> dict[str, Figures]:
    """Seconds per step of every phase after its first epoch: with data, and with one batch."""
    import tensorflow as tf

    cpus = os.cpu_count() or 1
    tf.config.threading.set_intra_op_parallelism_threads(cpus)
    tf.config.threading.set_inter_op_parallelism_threads(cpus)

    from data_pipeline.loading.dataset import Batches
    from data_pipeline.loading.patch_set import PatchSet
    from data_pipeline.manifest import require_manifest
    from data_pipeline.platform.storage import open_storage
    from srgan.network_losses import network_losses
    from srgan.training.phases import plan_phases
    from srgan.training.state import begin_phase, build_networks
    from srgan.training.step import make_train_call
    from srgan.training.strategy import make_strategy, steps_per_call

    config = parse_config((Path(run) / "config.yaml").read_text(), "config")
    data = open_storage(f"{folder}/data")
    manifest = require_manifest(data)
    strategy = make_strategy(workers=1)
    with strategy.scope():
        networks = build_networks(config, scale=4)
        compare = network_losses(config, open_storage(run))
    batches = Batches(
        PatchSet(data, manifest),
        manifest,
        seed=config.seed,
        global_batch=config.batch.global_batch,
        hr_crop=config.batch.hr_crop,
    )
    each = steps_per_call(config, gpus=0)
    seconds = {}
    for phase in plan_phases(config.phases, batches.epoch_steps):
        with strategy.scope():
            state = begin_phase(networks, phase.config, steps=phase.steps)
        call = make_train_call(strategy, state, config, phase.config, compare)
        dataset = batches.dataset(
            start=phase.start, stop=phase.stop, replicas=[0], num_replicas=1, endless=True
        )
        first = next(iter(dataset.take(1)))
        sources = {"data": dataset, "no_data": tf.data.Dataset.from_tensors(first).repeat()}
        iterators = {
            name: iter(strategy.distribute_datasets_from_function(lambda _, data=source: data))
            for name, source in sources.items()
        }
        spent = dict.fromkeys(sources, 0.0)
        calls = range(0, batches.epoch_steps * (phase.epochs - 1), each)
        for number in range(-1, len(calls)):  # the first one compiles
            for name, iterator in iterators.items():  # in turns
                started = time.monotonic()
                steps = tf.constant(each)
                call(iterator, steps, tf.zeros(3, tf.float64)).terms.numpy()
                spent[name] += time.monotonic() - started if number >= 0 else 0
        seconds[phase.name] = {name: total / (len(calls) * each) for name, total in spent.items()}
    return seconds


if __name__ == "__main__":
    main()
