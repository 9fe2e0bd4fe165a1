"""Many independent tasks on Ray: retried, bounded in number, one failure does not end the rest."""

from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any, TypeVar

import ray
from ray.exceptions import RayError, RayTaskError

from data_pipeline.cluster import ray_session
from data_pipeline.errors import JobFailedError
from data_pipeline.progress import Progress

_RETRIES = 3

# Tasks in flight per core: the next one waits at the worker, its arguments are in memory.
_QUEUED_PER_CPU = 2

# Failures in a row, for every task in flight, after which the others would fail too.
_HOPELESS = 3

T = TypeVar("T")


class TaskFailedError(Exception):
    """A task that failed in spite of retries; the message is one line."""


def fan_out(
    function: Callable[..., T],
    arguments: Iterable[tuple[Any, ...]],
    *,
    total: int,
    label: str,
    unit: str,
) -> list[T | TaskFailedError]:
    """Calls a function on the workers of the cluster, one core each.

    A task whose worker dies, or that raises OSError or JobFailedError, is run again.

    Args:
        function: What to run.
        arguments: The function's, one tuple a task; asked for when a task's turn comes.
        total: How many tasks there are.
        label: Names the progress bar.
        unit: What a task finishes, in the plural.

    Returns:
        A result or a failure for every task, in order. After many failures in a row, as from a
        full disk, the rest is not tried.
    """
    if not total:
        return []
    found: dict[int, T | TaskFailedError] = {}
    with ray_session(), Progress(label, total, unit) as progress:
        remote = ray.remote(
            num_cpus=1, max_retries=_RETRIES, retry_exceptions=[OSError, JobFailedError]
        )(function)
        waiting = enumerate(arguments)
        pending: dict[Any, int] = {}
        in_a_row = 0
        while True:
            room = max(2, int(_QUEUED_PER_CPU * ray.cluster_resources().get("CPU", 1)))
            if in_a_row < _HOPELESS * room:
                for number, values in islice(waiting, room - len(pending)):
                    pending[remote.remote(*values)] = number
            if not pending:
                break
            done, _ = ray.wait(list(pending))
            result = _result(done[0])
            in_a_row = in_a_row + 1 if isinstance(result, TaskFailedError) else 0
            found[pending.pop(done[0])] = result
            progress.advance()
    not_tried = TaskFailedError("was not tried after so many failures")
    return [found.get(number, not_tried) for number in range(total)]


def _result(reference: Any) -> Any:
    try:
        return ray.get(reference)
    except RayTaskError as error:
        cause = error.cause
        return TaskFailedError(f"{type(cause).__name__}: {' '.join(str(cause).split())[:300]}")
    except RayError as error:
        return TaskFailedError(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
