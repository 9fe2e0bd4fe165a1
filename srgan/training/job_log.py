"""RUN/logs: a copy of each job's log, for when the node that holds it is gone."""

import logging
import os
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from data_pipeline.platform.errors import JobFailedError, UserError
from data_pipeline.platform.storage import Storage
from srgan.run_layout import log_key

_STDERR = 2
_MOST_BYTES = 64 << 20
_SECONDS_BETWEEN_COPIES = 300.0

_log = logging.getLogger(__name__)


@contextmanager
def copied_log(run: Storage, began: float) -> Iterator[None]:
    """Copies what this process and its workers write into their log during the block to RUN.

    It does so every five minutes, as the node may go without a word, and at the end. Only if the
    log is a file: that of a submitted job is, and so is one that a shell made.

    Args:
        run: RUN.
        began: When the job began, in seconds since 1970.
    """
    path = _log_file()
    if path is None:
        yield
        return
    key, start, ended = log_key(began), path.stat().st_size, threading.Event()

    def copy_often() -> None:
        while not ended.wait(_SECONDS_BETWEEN_COPIES):
            _copy(run, key, path, start, "the job goes on")

    thread = threading.Thread(target=copy_often, daemon=True)
    thread.start()
    reason = "the job ends"
    try:
        yield
    except BaseException as error:
        reason = f"the job ends: {type(error).__name__} {error}".rstrip()
        raise
    finally:
        ended.set()
        thread.join()
        _copy(run, key, path, start, reason)


def _copy(run: Storage, key: str, path: Path, start: int, reason: str) -> None:
    try:
        log = _read(path, start)
        run.write(key, log + f"{time.strftime('%H:%M:%S')} {reason}\n".encode())
    except (UserError, JobFailedError, OSError) as error:
        # The job's own end says more than this.
        _log.warning("%s/%s: the log cannot be copied there: %s", run.uri, key, error)


def _log_file() -> Path | None:
    """The file that stderr is, where it is one and has a name."""
    try:
        path = Path(f"/proc/self/fd/{_STDERR}").readlink()
        return path if stat.S_ISREG(os.fstat(_STDERR).st_mode) and path.exists() else None
    except OSError:  # a system without /proc
        return None


def _read(path: Path, start: int) -> bytes:
    """The file from `start` on; its end, if that is too much."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(min(start, size), size - _MOST_BYTES))
        return file.read()
