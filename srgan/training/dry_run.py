"""A rehearsal: everything that a run does, for a few steps, and what the whole would take."""

import logging
import uuid
from collections.abc import Sequence
from typing import Any, NamedTuple

from data_pipeline.cluster import ray_session
from data_pipeline.manifest import Manifest, require_manifest
from data_pipeline.progress import data_size, duration
from data_pipeline.storage import Storage, open_storage
from srgan.config import Config
from srgan.run_layout import CHECKPOINTS, GENERATORS
from srgan.training.metrics_log import read_metrics
from srgan.training.phases import Phase
from srgan.training.resources import Workers
from srgan.training.run import check_run, plan, train

_STEPS = 3

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
    workers: tuple[int, int] = (1, 1),
    gpus: int | None = None,
) -> list[str]:
    """Trains a few steps of every phase beside RUN, and removes what they left.

    An end of an epoch belongs to it: validation, a sample picture, a generator, a checkpoint.

    Args:
        config: The experiment.
        data_uri: DATA.
        run_uri: RUN, which stays as it is.
        workers: As `train`'s.
        gpus: Likewise.

    Returns:
        Lines for people: what the run would take in time, memory and storage.

    Raises:
        UserError: What `train` would raise, now or after hours.
        JobFailedError: Likewise.
    """
    data, run = open_storage(data_uri), open_storage(run_uri)
    manifest = require_manifest(data)
    phases, _ = check_run(config, data, run, manifest)
    parent, _, name = run.uri.rpartition("/")
    beside = open_storage(parent + "/" if parent.endswith("/") else parent)
    rehearsal = f"{name}-dry-run-{uuid.uuid4().hex[:8]}"
    with ray_session():
        planned = plan(workers, gpus, config)
        try:
            train(_shortened(config), data_uri, f"{parent}/{rehearsal}", workers=workers, gpus=gpus)
            cost = _measure(open_storage(f"{parent}/{rehearsal}"))
        finally:
            for item in beside.list(f"{rehearsal}/"):
                beside.delete(item.key)
    return _report(config, phases, planned, cost, manifest)


def _shortened(config: Config) -> Config:
    """The same work in few steps; one step a call, so that the first one can be told apart."""
    phases = {
        name: phase.model_copy(update={"epochs": None, "steps": _STEPS})
        for name, phase in config.phases.items()
    }
    failures = config.failures.model_copy(update={"restarts": 0})
    return config.model_copy(update={"phases": phases, "steps_per_call": 1, "failures": failures})


def _measure(rehearsal: Storage) -> Cost:
    records = read_metrics(rehearsal)
    checkpoints: dict[str, int] = {}
    for item in rehearsal.list(f"{CHECKPOINTS}/"):
        folder = item.key.split("/")[1]
        checkpoints[folder] = checkpoints.get(folder, 0) + item.size
    return Cost(
        seconds_per_step={record["phase"]: _steady_seconds(record) for record in records},
        peak_host_bytes=max(record["peak_host_bytes"] for record in records),
        peak_gpu_bytes=max(record.get("peak_gpu_bytes", 0) for record in records),
        checkpoint_bytes=max(checkpoints.values()),
        generator_bytes=max(item.size for item in rehearsal.list(GENERATORS)),
    )


def _steady_seconds(record: dict[str, Any]) -> float:
    """Of a step inside the compiled calls, the first of which compiles."""
    inside = record["seconds"] - _STEPS * record["outside_seconds_per_step"]
    return float(inside - record["compile_seconds"]) / (_STEPS - 1)


def _report(
    config: Config, phases: Sequence[Phase], workers: Workers, cost: Cost, manifest: Manifest
) -> list[str]:
    lines = [f"dry run: {_STEPS} steps of every phase work, on {workers}"]
    total = 0.0
    for phase in phases:
        each = cost.seconds_per_step[phase.name]
        total += phase.steps * each
        lines.append(
            f"{phase.name}: {phase.steps} steps of {each:.3g} s, {phase.epochs} epochs: "
            f"{duration(phase.steps * each)}"
        )
    devices = workers.most * workers.gpus
    hours = total / 3600
    lines.append(
        f"time: {duration(total)} in all, "
        + (f"{hours * devices:.1f} GPU hours" if devices else f"{hours:.1f} hours on CPUs")
    )
    gpu = f", {data_size(cost.peak_gpu_bytes)} of each GPU" if cost.peak_gpu_bytes else ""
    lines.append(f"memory: {data_size(cost.peak_host_bytes)} of a worker's host{gpu}")
    epochs = phases[-1].epochs
    lines.append(
        f"storage: {config.checkpoints.keep} checkpoints of {data_size(cost.checkpoint_bytes)}, "
        f"{epochs} generators of {data_size(cost.generator_bytes)}"
    )
    shards = data_size(manifest.train_bytes)
    lines.append(f"data: {shards} of shards, which a node fetches once if in a bucket")
    return lines
