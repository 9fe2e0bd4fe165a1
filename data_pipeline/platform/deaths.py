"""Why a process of Ray's ended, when it could not tell itself. Most often memory is the reason."""

import re

# Ray's monitor ends a process, and says what it saw.
_MONITOR = re.compile(r"Memory on the node \(IP: ([^,]+), .*?was (\S+) used / (\S+) limit")

# The kernel ends a process, or it crashes, and Ray only sees its connection close.
_SILENT = re.compile(r"connection error code 2|worker process has died")
_LOST = "its node has died"
_NODE = re.compile(r"^\s*ip: (\S+)$", re.M)


def is_of_ray(error: BaseException) -> bool:
    """Whether it is one of Ray's errors. Ray takes a second to import, so this does without."""
    return any(kind.__module__ == "ray.exceptions" for kind in type(error).__mro__)


def explain_death(error: BaseException) -> str | None:
    """What happened, in words without a fix; None for an error of another kind.

    Args:
        error: What Ray raised in place of a result.
    """
    from ray.exceptions import ActorDiedError, OutOfMemoryError, WorkerCrashedError

    if not isinstance(error, ActorDiedError | OutOfMemoryError | WorkerCrashedError):
        return None
    text = str(error)
    if seen := _MONITOR.search(text):
        node, used, limit = seen.groups()
        return f"the memory of node {node} was full ({used} of {limit}), and Ray ended the process"
    if isinstance(error, OutOfMemoryError):
        return "a node's memory was full, and Ray ended the process"
    if isinstance(error, WorkerCrashedError) or _SILENT.search(text):
        node = f" on node {found[1]}" if (found := _NODE.search(text)) else ""
        return f"the process{node} was killed or crashed; most often its memory was full"
    return None


def one_line(error: BaseException) -> str:
    """An error of Ray's in one line of at most 300 characters."""
    told = explain_death(error)
    if not told and _LOST in str(error):
        told = (
            f"node {found[1]} was lost"
            if (found := _NODE.search(str(error)))
            else "a node was lost"
        )
    return told or f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
