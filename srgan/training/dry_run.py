"""Trains some steps as a run would, and tells what the whole run would take."""

import logging
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from data_pipeline.manifest import Manifest, require_manifest
from data_pipeline.platform.progress import data_size, duration
from data_pipeline.platform.storage import Storage, open_storage
from srgan.config import Config
from srgan.metrics_log import read_metrics
from srgan.run_layout import CHECKPOINTS, GENERATORS, INITIAL_KEY, LPIPS_KEY, SAMPLES, VGG_KEY
from srgan.training.driver import check_run, is_finished, train
from srgan.training.phases import Phase
from srgan.training.rehearsal import MOST_STEPS, mean_range
from srgan.training.time_left import Costs, time_left

if TYPE_CHECKING:
    from srgan.training.resources import Workers

_LOOKS = 5

_log = logging.getLogger(__name__)


class Cost(NamedTuple):
    """What was measured.

    Attributes:
        step_seconds: Of every step, by phase, without the first one, which compiles.
        begin_seconds: Of the longest begin of a phase: it builds and compiles.
        save_seconds: For which the training stood still for the longest save.
        validation_seconds: Of the validation images; 0 without.
        peak_host_bytes: Of the first worker.
        peak_gpu_bytes: Of its GPU that used most; 0 on the CPU.
        checkpoint_bytes: Of the largest checkpoint.
        generator_bytes: Of a generator.
        sample_bytes: Of a sample picture; 0 without.
    """

    step_seconds: dict[str, list[float]]
    begin_seconds: float
    save_seconds: float
    validation_seconds: float
    peak_host_bytes: int
    peak_gpu_bytes: int
    checkpoint_bytes: int
    generator_bytes: int
    sample_bytes: int


def dry_run(
    config: Config,
    data_uri: str,
    run_uri: str,
    *,
    workers: tuple[int, int] | None = None,
    gpus: int | None = None,
) -> list[str]:
    """Trains steps of every phase in a new folder inside RUN, then removes the folder.

    A phase ends once its steps are timed well enough (`rehearsal.is_enough`). It includes the end
    of an epoch: validation, a sample picture, a generator, a checkpoint.

    Args:
        config: The experiment.
        data_uri: DATA.
        run_uri: RUN, which stays as it is.
        workers: As `train`'s; the fewest are used.
        gpus: Likewise.

    Returns:
        Lines for people: what the run would take in time, memory and storage. None for a run that
        is finished.

    Raises:
        UserError: What `train` would raise, at once or after hours.
        JobFailedError: Likewise.
    """
    data, run = open_storage(data_uri), open_storage(run_uri)
    manifest = require_manifest(data)
    phases, position = check_run(config, data, run, manifest)
    step = position.step if position else 0
    if is_finished(run, phases, position):
        return []
    # After the checks: Ray takes seconds to import.
    from data_pipeline.platform.cluster import ray_session
    from srgan.training.resources import plan_now

    rehearsal = f"dry-run-{uuid.uuid4().hex[:8]}"
    try:
        with ray_session():
            # A measurement holds for one number of workers.
            planned = plan_now(config, workers=workers and (workers[0], workers[0]), gpus=gpus)
            fixed = (planned.least, planned.most)
            where = f"{run.uri}/{rehearsal}"
            short = _shortened(config, begun=run if position else None)
            train(short, data_uri, where, workers=fixed, gpus=planned.gpus, rehearsal=True)
        cost = measure(open_storage(where))
    finally:
        _log.info("dry run: what it wrote below %s is removed", run.uri)
        _remove(run, rehearsal)
    return report(config, phases, step=step, workers=planned, cost=cost, manifest=manifest)


def _shortened(config: Config, *, begun: Storage | None) -> Config:
    """The same work in few steps. One step a call, so that the first step is timed alone.

    It has no warm-up: a learning rate that is too high shows at once. A run that has begun reads
    its own copies of the weights.
    """
    phases = {}
    for name, phase in config.phases.items():
        rate = phase.learning_rate.model_copy(update={"warmup_steps": 0})
        # The first step compiles and is not timed, and the workers agree a step later on the end.
        changed = {"epochs": None, "steps": MOST_STEPS + 3, "learning_rate": rate}
        phases[name] = phase.model_copy(update=changed)
    changes: dict[str, Any] = {
        "phases": phases,
        "steps_per_call": 1,
        "failures": config.failures.model_copy(update={"restarts": 0}),
    }
    for name, key in (
        ("vgg_weights", VGG_KEY),
        ("lpips_weights", LPIPS_KEY),
        ("initial_generator", INITIAL_KEY),
    ):
        if begun and begun.size(key) is not None:
            changes[name] = f"{begun.uri}/{key}"
    return config.model_copy(update=changes)


def _remove(run: Storage, rehearsal: str) -> None:
    """Removes the folder. Workers of an interrupted dry run may still write for a moment."""
    for _ in range(_LOOKS):
        run.delete_folder(rehearsal)
        if not run.list(f"{rehearsal}/"):
            return
        time.sleep(1)
    _log.warning("%s/%s: could not be removed; delete it", run.uri, rehearsal)


def measure(rehearsal: Storage) -> Cost:
    """Reads the results of a dry run."""
    records = read_metrics(rehearsal)
    checkpoints: dict[str, int] = {}
    for item in rehearsal.list(f"{CHECKPOINTS}/"):
        folder = item.key.split("/")[1]
        checkpoints[folder] = checkpoints.get(folder, 0) + item.size
    validations = [one["validation_seconds"] for one in records if "validation_seconds" in one]
    return Cost(
        step_seconds={one["phase"]: one["step_seconds"] for one in records},
        begin_seconds=max(one["startup_seconds"] for one in records),
        save_seconds=max(one["save_seconds"] for one in records),
        validation_seconds=max(validations, default=0.0),
        peak_host_bytes=max(one["peak_host_bytes"] for one in records),
        peak_gpu_bytes=max(one.get("peak_gpu_bytes", 0) for one in records),
        checkpoint_bytes=max(checkpoints.values()),
        generator_bytes=_largest(rehearsal, GENERATORS),
        sample_bytes=_largest(rehearsal, SAMPLES),
    )


def _largest(storage: Storage, folder: str) -> int:
    return max((item.size for item in storage.list(folder)), default=0)


def report(
    config: Config,
    phases: Sequence[Phase],
    *,
    step: int,
    workers: "Workers",
    cost: Cost,
    manifest: Manifest,
) -> list[str]:
    """What the rest of a run takes from `step` on, in lines for people."""
    timed = ", ".join(f"{len(one)} of {name}" for name, one in cost.step_seconds.items())
    lines = [f"dry run: every phase works, on {workers}; steps timed: {timed}"]
    ranges = {name: mean_range(seconds) for name, seconds in cost.step_seconds.items()}
    for phase in phases:
        left = max(0, phase.stop - max(phase.start, step))
        low, mean, high = ranges[phase.name]
        lines.append(
            f"{phase.name}: {left} steps of {mean:.3g} s (two standard errors: {low:.3g} to "
            f"{high:.3g} s): {_range(left * low, left * high)}"
        )
    least, most = (
        _seconds(phases, step, {name: one[number] for name, one in ranges.items()}, cost)
        for number in (0, 2)
    )
    gpus = workers.most * workers.gpus
    used = f"{least * gpus / 3600:.1f} to {most * gpus / 3600:.1f} GPU hours" if gpus else "on CPUs"
    lines.append(
        f"time: {_range(least, most)}, {used}, with compiling and ends of epochs; restarts add "
        "to it"
    )
    gpu = f", {data_size(cost.peak_gpu_bytes)} of each GPU" if cost.peak_gpu_bytes else ""
    lines.append(f"memory: {data_size(cost.peak_host_bytes)} of a worker's host{gpu}")
    epochs, generators = sum(phase.epochs for phase in phases), phases[-1].epochs
    keep = config.checkpoints.keep
    stored = (
        keep * cost.checkpoint_bytes
        + generators * cost.generator_bytes
        + epochs * cost.sample_bytes
    )
    lines.append(
        f"storage: {data_size(stored)}: {keep} checkpoints of {data_size(cost.checkpoint_bytes)}, "
        f"{generators} generators of {data_size(cost.generator_bytes)}, at most {epochs} sample "
        f"pictures of {data_size(cost.sample_bytes)}"
    )
    sr = sum(record.hr.bytes for record in manifest.valid)
    lines.append(
        f"evaluation: {data_size(generators * sr)} for the SR images of all {generators} epochs, "
        f"{data_size(sr)} each, if they are as large as HR"
    )
    shards = data_size(manifest.train_bytes)
    lines.append(f"data: {shards} of shards, which a node fetches once if in a bucket")
    return lines


def _seconds(
    phases: Sequence[Phase], step: int, step_seconds: Mapping[str, float], cost: Cost
) -> float:
    costs = Costs(step_seconds, cost.begin_seconds, cost.save_seconds, cost.validation_seconds)
    left = time_left(phases, step, costs, flops={})
    assert left  # every phase was measured
    return left.seconds


def _range(least: float, most: float) -> str:
    texts = duration(least), duration(most)
    return texts[0] if texts[0] == texts[1] else f"{texts[0]} to {texts[1]}"
