"""What a local Ray needs of this machine and this shell."""

import os
import resource
import shutil
from pathlib import Path

from data_pipeline.platform.errors import UserError

_ROOM = 32 << 20  # bytes, for Ray's logs and sockets

# A local Ray on two cores has some 250 threads.
_THREADS = 256

# The letter of `ulimit`, the kind, and the unit in bytes or pieces.
_KINDS = (
    ("u", resource.RLIMIT_NPROC, 1),
    ("v", resource.RLIMIT_AS, 1024),
    ("n", resource.RLIMIT_NOFILE, 1),
)

_ADDRESS_SPACE = 4 << 30  # bytes
_LARGEST_STORE = 1 << 30  # bytes


def temporary_folder() -> Path:
    """Where Ray puts its logs and sockets."""
    return Path(os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp")  # noqa: S108


def check_limits() -> None:
    """Finds at once what Ray would only fail from after half a minute, without a reason.

    Raises:
        UserError: If the temporary folder cannot be written or is full, or a limit of the shell is
            too low.
    """
    folder = temporary_folder().absolute()
    while not folder.exists():
        folder = folder.parent
    fix = "set RAY_TMPDIR to another folder, with a short path"
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"{folder}: Ray's temporary folder cannot be written; {fix}")
    free = shutil.disk_usage(folder).free
    if free < _ROOM:
        raise UserError(
            f"{folder}: Ray's temporary folder has only {free >> 10} kB free and Ray needs "
            f"{_ROOM >> 20} MB; make room, or {fix}"
        )
    threads = _limit(resource.RLIMIT_NPROC)
    if threads is not None and threads < _THREADS and os.geteuid():  # root has no such limit
        raise UserError(
            f"ulimit -u {threads}: Ray needs {_THREADS} processes and threads, and more on a "
            "machine of many cores; raise the limit"
        )
    space = _limit(resource.RLIMIT_AS)
    if space is not None and space < _ADDRESS_SPACE:
        raise UserError(
            f"ulimit -v {space >> 10}: Ray and TensorFlow need {_ADDRESS_SPACE >> 10}; raise the "
            "limit, or lift it: ulimit -v unlimited"
        )


def object_store_bytes() -> int | None:
    """The size of a local Ray's store under `ulimit -v`; None for Ray's own choice.

    Every process maps the whole store, by default 30 % of the memory.
    """
    space = _limit(resource.RLIMIT_AS)
    return None if space is None else min(space // 8, _LARGEST_STORE)


def told_limits() -> str:
    """The shell's limits that are set, as `ulimit -u 500, ulimit -v 8000000`; or nothing."""
    return ", ".join(
        f"ulimit -{letter} {limit // unit}"
        for letter, kind, unit in _KINDS
        if (limit := _limit(kind)) is not None
    )


def _limit(kind: int) -> int | None:
    soft, _ = resource.getrlimit(kind)
    return None if soft == resource.RLIM_INFINITY else soft
