"""Runs many independent tasks on Ray, a bounded number at once. A failure does not end the rest."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, TypeVar

import ray
from ray.exceptions import RayError, RayTaskError

from data_pipeline.platform.cluster import ray_session
from data_pipeline.platform.errors import JobFailedError, UserError
from data_pipeline.platform.progress import Progress

_RETRIES = 3

# Submitted tasks for every task that runs. The next one waits with its arguments in memory.
_QUEUED_PER_SLOT = 2

# Failures in a row, for every submitted task, after which the rest is not tried.
_HOPELESS = 3

_PATIENCE_SECONDS = 300

_log = logging.getLogger(__name__)

T = TypeVar("T")


class TaskFailedError(Exception):
    """A task that failed in spite of its retries. The message is one line."""


def fan_out(
    function: Callable[..., T],
    arguments: Iterable[tuple[Any, ...]],
    *,
    total: int,
    label: str,
    unit: str,
) -> list[T | UserError | TaskFailedError]:
    """Runs `fan_out_unordered` to its end; returns one result for every task, in order."""
    found = dict(fan_out_unordered(function, arguments, total=total, label=label, unit=unit))
    not_tried = TaskFailedError("was not tried after so many failures")
    return [found.get(number, not_tried) for number in range(total)]


def fan_out_unordered(
    function: Callable[..., T],
    arguments: Iterable[tuple[Any, ...]],
    *,
    total: int,
    label: str,
    unit: str,
    cpus: int = 1,
    gpus: int = 0,
    environment: Mapping[str, str] | None = None,
) -> Iterator[tuple[int, T | UserError | TaskFailedError]]:
    """Calls a function on the workers of the cluster, once for every tuple of arguments.

    A task is run again if its worker dies, or if it raises OSError or JobFailedError. A UserError
    is a result: it becomes a value here and nowhere else, and the other tasks go on.

    Args:
        function: What to run.
        arguments: One tuple a task; asked for when the task's turn comes.
        total: How many tasks there are.
        label: Name of the progress bar.
        unit: What a task finishes, in the plural.
        cpus: Cores that a task takes.
        gpus: GPUs that a task takes. Its process ends with it: the next task may get another GPU.
        environment: Variables of the tasks' processes. Other tasks do not share these processes.

    Yields:
        A task's number and its result, UserError or failure, as soon as it is there. After many
        failures in a row, as from a full disk, the rest is not tried.
    """
    if not total:
        return
    with ray_session(), Progress(label, total, unit) as progress:
        remote = ray.remote(
            num_cpus=cpus,
            num_gpus=gpus,
            max_retries=_RETRIES,
            retry_exceptions=[OSError, JobFailedError],
            runtime_env={"env_vars": dict(environment)} if environment else None,
        )(function)
        waiting = enumerate(arguments)
        pending: dict[Any, int] = {}
        in_a_row = 0
        while True:
            resources = ray.cluster_resources()
            at_once = resources.get("GPU", 0) / gpus if gpus else resources.get("CPU", 1) / cpus
            room = max(2, int(_QUEUED_PER_SLOT * at_once))
            if in_a_row < _HOPELESS * room:
                for number, values in islice(waiting, max(0, room - len(pending))):
                    pending[remote.remote(*values)] = number
            if not pending:
                break
            done, _ = ray.wait(list(pending), timeout=_PATIENCE_SECONDS)
            if not done:
                _log.warning(
                    "%s: nothing finished for %d minutes; tasks of %d CPU(s) and %d GPU(s) wait "
                    "for room if the cluster has none",
                    label,
                    _PATIENCE_SECONDS // 60,
                    cpus,
                    gpus,
                )
                continue
            result = _result(done[0])
            in_a_row = in_a_row + 1 if isinstance(result, TaskFailedError) else 0
            progress.advance()
            yield pending.pop(done[0]), result


def _result(reference: Any) -> Any:
    try:
        return ray.get(reference)
    except RayTaskError as error:
        cause = error.cause
        if isinstance(cause, UserError):
            return cause
        return TaskFailedError(f"{type(cause).__name__}: {' '.join(str(cause).split())[:300]}")
    except RayError as error:
        return TaskFailedError(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
