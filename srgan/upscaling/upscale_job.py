"""An upscaling: what is missing in OUTPUT is made on the cluster."""

import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ray

from data_pipeline.platform.cluster import ray_session
from data_pipeline.platform.errors import JobFailedError, UserError
from data_pipeline.platform.fanout import (
    TaskFailedError,
    as_task,
    fan_out_unordered,
    largest_node,
    on_gpus,
)
from data_pipeline.platform.node import remove_unlocked
from data_pipeline.platform.storage import LocalStorage, StoredObject
from srgan.upscaling.plan import Plan, Work
from srgan.upscaling.settings import Settings, claim
from srgan.upscaling.task import GpuUpscaler, UpscaleTask, upscale_picture

_CPUS = 4  # of a task, if no GPU is free
_SHOWN = 5
_PARTIAL = "." + 12 * "[0-9a-f]" + ".partial"

_log = logging.getLogger(__name__)


class Summary(NamedTuple):
    """How many results were made, and how many were there before."""

    made: int
    there: int


def upscale_missing(
    plan: Plan, generator_uri: str, settings: Settings, *, overwrite: bool
) -> Summary:
    """Makes the results that OUTPUT lacks.

    Args:
        plan: The pictures and their results.
        generator_uri: The generator's file.
        settings: How to upscale.
        overwrite: Whether to delete the results that are there first.

    Raises:
        UserError: If OUTPUT belongs to other settings, or pictures cannot be upscaled. All others
            are made.
        JobFailedError: If workers fail again and again; what could be made is there.
    """
    there = _find_results(plan, settings, overwrite=overwrite)
    todo = [work for work in plan.works if work.target not in there]
    _warn_of_newer(plan, there)
    if todo or plan.refused:
        with ray_session():
            _upscale(plan, todo, generator_uri, settings)
    return Summary(len(todo), len(plan.works) - len(todo))


def _find_results(plan: Plan, settings: Settings, *, overwrite: bool) -> dict[str, float]:
    """The results that are there, and when each was written; makes OUTPUT ours.

    Removes what killed calls left half-written.
    """
    if not plan.is_file:
        results = claim(
            plan.target, settings, [work.target for work in plan.works], overwrite=overwrite
        )
        plan.target.delete_partial()
        return results
    (work,) = plan.works
    if isinstance(plan.target, LocalStorage):  # of this folder only the results are ours
        for path in Path(plan.target.uri).glob(_PARTIAL):
            remove_unlocked(path)
    if plan.target.size(work.target) is None:
        return {}
    if overwrite:
        plan.target.delete(work.target)
        return {}
    found = plan.target.list(work.target)
    return {one.key: one.changed for one in found if one.key == work.target}


def _warn_of_newer(plan: Plan, there: dict[str, float]) -> None:
    newer = [
        work.source.key
        for work in plan.works
        if work.target in there and _changed(plan, work.source) > there[work.target]
    ]
    if newer:
        _log.warning(
            "%d inputs are newer than their results (%s): --overwrite makes all anew",
            len(newer),
            _shown(newer, ", "),
        )


def _changed(plan: Plan, found: StoredObject) -> float:
    """When a picture was saved: a folder's listing counts the changes of its folders too."""
    if isinstance(plan.source, LocalStorage):
        return plan.source.path(found.key).stat().st_mtime
    return found.changed


def _upscale(plan: Plan, todo: Sequence[Work], generator_uri: str, settings: Settings) -> None:
    """Runs a task for each picture. Raises as `upscale_missing`."""
    submit, cpus = _submit(len(todo))
    tasks = (
        UpscaleTask(plan.source, plan.target, work, generator_uri, settings, cpus) for work in todo
    )
    problems = list(plan.refused)
    for problem in problems:
        _log.warning("not upscaled: %s", problem)
    failed: list[str] = []
    notes: dict[str, list[str]] = defaultdict(list)
    tried = 0
    for number, result in fan_out_unordered(
        submit,
        ((task,) for task in tasks),
        total=len(todo),
        label="upscale",
        unit="pictures",
        cpus=cpus,
    ):
        tried += 1
        key = todo[number].source.key
        if isinstance(result, UserError):
            problems += result.problems
            _log.warning("not upscaled: %s", result)
        elif isinstance(result, TaskFailedError):
            failed.append(f"{key}: {result}")
            _log.warning("not upscaled: %s: %s", key, result)
        else:
            for note in result:
                notes[note].append(key)
    for note, keys in notes.items():
        _log.info("%d pictures (%s): %s", len(keys), _shown(sorted(keys), ", "), note)
    if left := len(todo) - tried:
        failed.append(f"{left} were not tried after so many failures")
    if problems or failed:
        bad = len(problems) + len(failed) + left - bool(left)
        message = f"{bad} of {len(todo) + len(plan.refused)} pictures were not upscaled: "
        error = UserError if problems else JobFailedError
        raise error(message + _shown(sorted(problems) + sorted(failed), "; "))


def _submit(pictures: int) -> tuple[Callable[[UpscaleTask], Any], int]:
    """What submits a task: to the GPUs that are free, else to CPUs; and the cores that it takes."""
    if gpus := min(pictures, int(ray.available_resources().get("GPU", 0))):
        return on_gpus(GpuUpscaler, "upscale", gpus=gpus), 1
    if ray.cluster_resources().get("GPU", 0):
        _log.warning("no GPU of the cluster is free: upscales on its CPUs")
    cpus = max(1, min(_CPUS, largest_node()))
    return as_task(upscale_picture, cpus=cpus), cpus


def _shown(texts: Sequence[str], separator: str) -> str:
    left = len(texts) - _SHOWN
    return separator.join(texts[:_SHOWN]) + (f"{separator}and {left} more" if left > 0 else "")
