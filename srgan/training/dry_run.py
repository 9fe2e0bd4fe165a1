"""Trains a few steps as a run would, and tells what the whole run would take."""

import logging
import time
import uuid
from collections.abc import Sequence
from typing import Any, NamedTuple

from data_pipeline.manifest import Manifest, require_manifest
from data_pipeline.platform.cluster import ray_session
from data_pipeline.platform.progress import data_size, duration
from data_pipeline.platform.storage import Storage, open_storage
from srgan.config import Config
from srgan.metrics_log import read_metrics
from srgan.run_layout import CHECKPOINTS, GENERATORS, INITIAL_KEY, VGG_KEY
from srgan.training.driver import check_run, is_finished, train
from srgan.training.phases import Phase
from srgan.training.resources import Workers, plan_now

_STEPS = 3
_LOOKS = 5

_log = logging.getLogger(__name__)


class Cost(NamedTuple):
    """What was measured.

    Attributes:
        seconds_per_step: By phase, without the first step, which compiles.
        peak_host_bytes: Of the first worker.
        peak_gpu_bytes: Of its GPU that used most; 0 on the CPU.
        checkpoint_bytes: Of the largest checkpoint.
        generator_bytes: Of a generator.
    """

    seconds_per_step: dict[str, float]
    peak_host_bytes: int
    peak_gpu_bytes: int
    checkpoint_bytes: int
    generator_bytes: int


def dry_run(
    config: Config,
    data_uri: str,
    run_uri: str,
    *,
    workers: tuple[int, int] | None = None,
    gpus: int | None = None,
) -> list[str]:
    """Trains a few steps of every phase in a new folder inside RUN, then removes the folder.

    It includes the end of an epoch: validation, a sample picture, a generator, a checkpoint.

    Args:
        config: The experiment.
        data_uri: DATA.
        run_uri: RUN, which stays as it is.
        workers: As `train`'s; the fewest are used.
        gpus: Likewise.

    Returns:
        Lines for people: what the run would take in time, memory and storage.

    Raises:
        UserError: What `train` would raise, at once or after hours.
        JobFailedError: Likewise.
    """
    data, run = open_storage(data_uri), open_storage(run_uri)
    manifest = require_manifest(data)
    phases, position = check_run(config, data, run, manifest)
    step = position.step if position else 0
    if is_finished(phases, position):
        return [f"{run.uri}: all {phases[-1].stop} steps are done already"]
    rehearsal = f"dry-run-{uuid.uuid4().hex[:8]}"
    try:
        with ray_session():
            # A measurement holds for one number of workers.
            planned = plan_now(config, workers=workers and (workers[0], workers[0]), gpus=gpus)
            fixed = (planned.least, planned.most)
            where = f"{run.uri}/{rehearsal}"
            short = _shortened(config, begun=run if position else None)
            train(short, data_uri, where, workers=fixed, gpus=planned.gpus)
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
        changed = {"epochs": None, "steps": _STEPS, "learning_rate": rate}
        phases[name] = phase.model_copy(update=changed)
    changes: dict[str, Any] = {
        "phases": phases,
        "steps_per_call": 1,
        "failures": config.failures.model_copy(update={"restarts": 0}),
    }
    for name, key in (("vgg_weights", VGG_KEY), ("initial_generator", INITIAL_KEY)):
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
    return Cost(
        seconds_per_step=steady_seconds(records),
        peak_host_bytes=max(record["peak_host_bytes"] for record in records),
        peak_gpu_bytes=max(record.get("peak_gpu_bytes", 0) for record in records),
        checkpoint_bytes=max(checkpoints.values()),
        generator_bytes=max(item.size for item in rehearsal.list(GENERATORS)),
    )


def steady_seconds(records: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Mean seconds of a step, by phase: inside the compiled calls, without the first call.

    Args:
        records: Lines of metrics.jsonl, in their order; small data sets have several for a phase.
    """
    inside: dict[str, float] = {}
    steps: dict[str, int] = {}
    before = 0
    for record in records:
        phase, count = record["phase"], record["step"] - before
        before = record["step"]
        seconds = record["seconds"] - count * record["outside_seconds_per_step"]
        inside[phase] = inside.get(phase, 0) + seconds - record.get("first_call_seconds", 0)
        steps[phase] = steps.get(phase, 0) + count
    return {phase: seconds / (steps[phase] - 1) for phase, seconds in inside.items()}


def report(
    config: Config,
    phases: Sequence[Phase],
    *,
    step: int,
    workers: Workers,
    cost: Cost,
    manifest: Manifest,
) -> list[str]:
    """What the rest of a run takes from `step` on, in lines for people."""
    lines = [f"dry run: {_STEPS} steps of every phase work, on {workers}"]
    total = 0.0
    for phase in phases:
        left = max(0, phase.stop - max(phase.start, step))
        each = cost.seconds_per_step[phase.name]
        total += left * each
        lines.append(f"{phase.name}: {left} steps of {each:.3g} s: {duration(left * each)}")
    gpus = workers.most * workers.gpus
    hours = total / 3600
    used = f"{hours * gpus:.1f} GPU hours" if gpus else f"{hours:.1f} hours on CPUs"
    lines.append(
        f"time: {duration(total)} of steps, {used}; compiling, ends of epochs, restarts add to it"
    )
    gpu = f", {data_size(cost.peak_gpu_bytes)} of each GPU" if cost.peak_gpu_bytes else ""
    lines.append(f"memory: {data_size(cost.peak_host_bytes)} of a worker's host{gpu}")
    lines.append(
        f"storage: {config.checkpoints.keep} checkpoints of {data_size(cost.checkpoint_bytes)}, "
        f"{phases[-1].epochs} generators of {data_size(cost.generator_bytes)}"
    )
    shards = data_size(manifest.train_bytes)
    lines.append(f"data: {shards} of shards, which a node fetches once if in a bucket")
    return lines
