"""Why training fails: which failures end a run at once, and the one line that explains each."""

import errno
from collections.abc import Sequence
from typing import NamedTuple

from data_pipeline.loading.cache import DamagedShardError
from data_pipeline.platform.deaths import explain_death, is_of_ray, one_line
from data_pipeline.platform.errors import JobFailedError, UserError


class DamagedCheckpointError(JobFailedError):
    """A checkpoint that is not what was written, or belongs to another network."""


class NonFiniteError(JobFailedError):
    """A loss term or a gradient is infinite or not a number."""


class LostRunError(JobFailedError):
    """Another trainer took the run over."""


# A restart would meet these again. TensorFlow's errors are known by their names.
_FINAL = (UserError, DamagedShardError, DamagedCheckpointError, NonFiniteError, LostRunError)
_FINAL_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}
_FINAL_NAMES = {"ResourceExhaustedError", "InvalidArgumentError", "UnimplementedError"}

# A worker raises these when it loses another worker.
_COLLATERAL_NAMES = {
    "UnavailableError",
    "AbortedError",
    "CancelledError",
    "DeadlineExceededError",
}


class Failure(NamedTuple):
    """Why a worker failed, in a form that any process can read.

    Attributes:
        error: What the job ends with if the workers are not started again.
        is_final: A restart does not help.
        is_collateral: The worker only lost another one, which has the real reason.
    """

    error: UserError | JobFailedError
    is_final: bool
    is_collateral: bool


def describe(error: BaseException) -> Failure:
    """Judges what a worker raised."""
    name = type(error).__name__
    is_final = (
        isinstance(error, _FINAL)
        or getattr(error, "errno", None) in _FINAL_ERRNOS
        or name in _FINAL_NAMES
    )
    if isinstance(error, UserError):
        told: UserError | JobFailedError = UserError(str(error))
    elif death := explain_death(error):
        told = JobFailedError(
            f"training failed: {death}; lower batch.global_batch, or use nodes with more memory; "
            "the same command goes on from the last checkpoint"
        )
    elif is_of_ray(error):
        told = JobFailedError(f"training failed: {one_line(error)}")
    else:
        kind = "" if isinstance(error, JobFailedError) else f"{name}: "
        told = JobFailedError(f"training failed: {kind}{_telling_line(str(error))}")
    return Failure(told, is_final, name in _COLLATERAL_NAMES)


def is_foreseen(error: BaseException) -> bool:
    """Whether one line explains an error, so that its traceback says nothing more."""
    return (
        isinstance(error, UserError | JobFailedError | OSError)
        or type(error).__name__ in _COLLATERAL_NAMES
    )


def first_cause(failures: Sequence[Failure]) -> Failure | None:
    """The failure that explains the others; None where there is none."""
    return min(failures, key=lambda failure: failure.is_collateral, default=None)


def _telling_line(text: str) -> str:
    """The first line that is neither a heading of TensorFlow's nor of a stack."""
    lines = [line for line in text.splitlines() if line.strip()] or [""]
    headings = (" ", "\t", "Graph execution error", "Detected at node", "Stack trace")
    return next((line for line in lines if not line.startswith(headings)), lines[-1])
