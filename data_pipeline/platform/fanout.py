"""Runs many independent tasks on Ray, a bounded number at once. A failure does not end the rest."""

import errno
import logging
from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from itertools import islice
from typing import Any, TypeVar

import ray
from ray.exceptions import RayError, RayTaskError

from data_pipeline.platform.cluster import ray_session
from data_pipeline.platform.deaths import explain_death, one_line
from data_pipeline.platform.errors import JobFailedError, UserError
from data_pipeline.platform.logs import configure_logging
from data_pipeline.platform.progress import Progress
from data_pipeline.platform.storage.interface import UnusableStorageError

# How often a task is run again, and after which of its own errors.
RETRIES = 3
MAY_PASS = (OSError, JobFailedError)

# Trying again does not help before a person has done this.
_FIXES = dict.fromkeys((errno.EACCES, errno.EPERM), "give this user the rights")
_FIXES |= dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "make room")
_FIXES[errno.EROFS] = "choose a folder that can be written"

# Full float32: with TF32 a result would depend on whether a GPU was free. The variable also keeps
# these processes apart from those that run TensorFlow on the CPU.
_GPU_ENVIRONMENT = {"NVIDIA_TF32_OVERRIDE": "0"}

# Submitted tasks for every task that runs. The next one waits with its arguments in memory.
_QUEUED_PER_SLOT = 2

# Failures in a row, for every submitted task, after which the rest is not tried.
_HOPELESS = 3

_PATIENCE_SECONDS = 300

# A resource of nodes without GPUs, one for each CPU: cluster.yaml and deploy/kubernetes give it.
# Where a cluster has it, tasks ask for it, and their queue starts no GPU node.
CPU_NODES = "cpu_node"

_log = logging.getLogger(__name__)

T = TypeVar("T")


class TaskFailedError(Exception):
    """A task that failed in spite of its retries. The message is one line, at times with a fix."""


def fan_out(
    function: Callable[..., T],
    arguments: Iterable[tuple[Any, ...]],
    *,
    total: int,
    label: str,
    unit: str,
) -> list[T | UserError | TaskFailedError]:
    """Runs `fan_out_unordered` to its end; returns one result for every task, in order."""
    submit = as_task(function)
    found = dict(fan_out_unordered(submit, arguments, total=total, label=label, unit=unit))
    not_tried = TaskFailedError("was not tried after so many failures")
    return [found.get(number, not_tried) for number in range(total)]


def as_task(function: Callable[..., Any], *, cpus: int = 1) -> Callable[..., Any]:
    """A function -> what submits it to the cluster as a task, and returns Ray's reference.

    A task is run again if its worker dies, or if it raises OSError or JobFailedError. After Ray
    ended it for memory, RAY_task_oom_retries says how often.

    Args:
        function: What to run.
        cpus: Cores that a task takes.
    """

    @wraps(function)
    def run(*arguments: Any) -> Any:
        configure_logging()
        return function(*arguments)

    task = ray.remote(num_cpus=cpus, max_retries=RETRIES, retry_exceptions=list(MAY_PASS))
    remote = task(run)

    def submit(*values: Any) -> Any:
        nodes = {CPU_NODES: cpus} if CPU_NODES in ray.cluster_resources() else {}
        return remote.options(resources=nodes).remote(*values)

    return submit


def on_gpus(kind: type, method: str, *, gpus: int) -> Callable[..., Any]:
    """What submits calls of a method to processes on GPUs, and returns Ray's references.

    A process on each GPU lives as long as what is returned here: TensorFlow starts once, and its
    graphs are compiled once. Ray starts it again if it dies. A call goes to the process that has
    the fewest to do.

    Args:
        kind: The class whose object each process makes, without arguments.
        method: The name of its method.
        gpus: How many GPUs.
    """
    actor = ray.remote(
        num_cpus=0,  # or the processes could take all cores of a node, and no task could run
        num_gpus=1,
        max_restarts=RETRIES,
        max_task_retries=RETRIES,
        runtime_env={"env_vars": _GPU_ENVIRONMENT},
    )(kind)
    queues: dict[Any, list[Any]] = {actor.remote(): [] for _ in range(gpus)}

    def submit(*values: Any) -> Any:
        for one, references in queues.items():
            if references:
                queues[one] = ray.wait(references, num_returns=len(references), timeout=0)[1]
        shortest = min(queues, key=lambda one: len(queues[one]))
        call = getattr(shortest, method).options(retry_exceptions=list(MAY_PASS))
        reference = call.remote(*values)
        queues[shortest].append(reference)
        return reference

    return submit


def largest_node() -> int:
    """CPU cores of the largest node that tasks go to now."""
    kind = CPU_NODES if CPU_NODES in ray.cluster_resources() else "CPU"
    return int(max(node["Resources"].get(kind, 0) for node in ray.nodes() if node["Alive"]))


def fan_out_unordered(
    submit: Callable[..., Any],
    arguments: Iterable[tuple[Any, ...]],
    *,
    total: int,
    label: str,
    unit: str,
    cpus: int = 1,
) -> Iterator[tuple[int, Any]]:
    """Submits a task for every tuple of arguments, a bounded number at once.

    A UserError is a result: it becomes a value here and nowhere else, and the other tasks go on.
    Only an UnusableStorageError is raised at once.

    Args:
        submit: Called with the arguments; returns the reference of the task's result.
        arguments: One tuple a task; asked for when the task's turn comes.
        total: How many tasks there are.
        label: Name of the progress bar.
        unit: What a task finishes, in the plural.
        cpus: Cores that a task takes.

    Yields:
        A task's number and its result, UserError or failure, as soon as it is there. After many
        failures in a row, as from a full disk, the rest is not tried.
    """
    if not total:
        return
    with ray_session(), Progress(label, total, unit) as progress:
        waiting = enumerate(arguments)
        pending: dict[Any, int] = {}
        in_a_row = 0
        while True:
            there = ray.cluster_resources()
            slots = there.get(CPU_NODES, there.get("CPU", 1)) / cpus
            room = max(2, int(_QUEUED_PER_SLOT * slots))
            if in_a_row < _HOPELESS * room:
                for number, values in islice(waiting, max(0, room - len(pending))):
                    pending[submit(*values)] = number
            if not pending:
                break
            done, _ = ray.wait(list(pending), timeout=_PATIENCE_SECONDS)
            if not done:
                _log.warning(
                    "%s: nothing finished for %d minutes; tasks of %d CPU(s) wait for room if the "
                    "cluster has none",
                    label,
                    _PATIENCE_SECONDS // 60,
                    cpus,
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
        while isinstance(cause, RayTaskError):  # of a task whose result this one needed
            cause = cause.cause
        if isinstance(cause, UnusableStorageError):  # so are all other tasks
            raise cause from error
        if isinstance(cause, UserError):
            return cause
        return TaskFailedError(_with_fix(cause))
    except RayError as error:
        return TaskFailedError(_with_fix(error))


def _with_fix(error: BaseException) -> str:
    if explain_death(error):
        fix = "use nodes with more memory, or fewer CPUs on each (ray start --num-cpus)"
    else:
        fix = _FIXES.get(getattr(error, "errno", None) or 0, "")
    return "; ".join(filter(None, (one_line(error), fix)))
