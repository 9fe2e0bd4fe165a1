"""One trainer at a time writes to a RUN: RUN/lease/<number>.json says which one, and that it lives.

The trainer holds a file lock on its own node, which the kernel drops when it dies, and renews the
lease every few seconds for the other nodes. A lease whose trainer is dead is replaced by one with
the next number. Storage creates an object only once, so of several trainers one gets it.
"""

import fcntl
import json
import logging
import os
import random
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from data_pipeline.platform.errors import JobFailedError, UserError
from data_pipeline.platform.node import locked_file, node_folder, remove_unlocked
from data_pipeline.platform.storage import Storage
from srgan.run_layout import LEASES
from srgan.training.failures import LostRunError

_SECONDS_BETWEEN_RENEWALS = 5.0
# A trainer on another node that does not renew for so long is dead: an outage of the storage that
# the storage's own patience outlives must not look like death.
_SECONDS_UNTIL_DEAD = 60.0
_SECONDS_BETWEEN_LOOKS = 1.0

_log = logging.getLogger(__name__)


class _Record(NamedTuple):
    """What a lease says.

    Attributes:
        host: The trainer's machine.
        pid: Its driver's process there.
        since: When it began.
        lock: Name of the file in the node's folder that the driver keeps locked; "" where the
            file system has no locks.
        renewals: How often it said that it lives.
    """

    host: str
    pid: int
    since: str
    lock: str
    renewals: int


class Lease:
    """A held lease. Can be sent to workers, which check it before they write."""

    def __init__(self, run: Storage, key: str) -> None:
        self._run, self._key = run, key

    def check(self) -> None:
        """Raises LostRunError if another trainer has taken the run over."""
        if not _is_newest(self._run, self._key):
            raise LostRunError(f"{self._run.uri}: another training has taken it over")


@contextmanager
def hold_lease(run: Storage) -> Iterator[Lease]:
    """Keeps other trainers from a RUN for the block's time.

    Raises:
        UserError: If another one lives: its host, process and beginning are named.
    """
    handle, path = locked_file(node_folder("leases"), "", ".lease")
    now = datetime.now(timezone.utc)
    record = _Record(
        socket.gethostname(), os.getpid(), f"{now:%Y-%m-%d %H:%M:%S} UTC", path.name, 0
    )
    ended = threading.Event()
    try:
        lease, key = _take(run, record)
        renewing = threading.Thread(target=_renew, args=(run, key, record, ended), daemon=True)
        renewing.start()
        try:
            yield lease
        finally:
            ended.set()
            renewing.join()
            try:
                run.delete(key)
            except (UserError, JobFailedError) as error:  # the block's own error tells more
                _log.warning("%s; the lease stays, and the next trainer removes it", error)
    finally:
        path.unlink(missing_ok=True)
        os.close(handle)


def _is_locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _take(run: Storage, record: _Record) -> tuple[Lease, str]:
    dead: set[str] = set()
    while True:
        known = _keys(run)
        for key in known:
            if key not in dead and (other := _read(run, key)):
                if _lives(run, key, other):
                    raise UserError(
                        f"{run.uri}: is being trained by process {other.pid} on {other.host} since "
                        f"{other.since}; wait for it or stop it, or choose another --run"
                    )
                _log.info("%s: its trainer on %s is dead: taken over", run.uri, other.host)
            dead.add(key)
        number = max((int(PurePosixPath(key).stem) for key in known), default=0)
        mine = f"{LEASES}{number + 1:06}.json"
        try:
            run.write_new(mine, _dump(record))
        except FileExistsError:
            continue  # another trainer was faster: look at it
        if {*_keys(run)} - dead - {mine}:  # another one began meanwhile: both look again
            run.delete(mine)
            time.sleep(random.uniform(0, _SECONDS_BETWEEN_LOOKS))  # noqa: S311  no secret
            continue
        for key in dead:
            run.delete(key)
        return Lease(run, mine), mine


def _lives(run: Storage, key: str, record: _Record) -> bool:
    """Whether a lease's trainer lives. No clocks are compared: those of nodes differ."""
    if record.lock:
        lock = node_folder("leases") / Path(record.lock).name  # RUN may come from anybody
        if lock.exists():  # this node's
            return not remove_unlocked(lock)
    deadline = time.monotonic() + _SECONDS_UNTIL_DEAD
    _log.info(
        "%s: waiting up to %.0f s to see whether its trainer on %s lives",
        run.uri,
        _SECONDS_UNTIL_DEAD,
        record.host,
    )
    while time.monotonic() < deadline:
        time.sleep(_SECONDS_BETWEEN_LOOKS)
        now = _read(run, key)
        if now is None:
            return False
        if now.renewals != record.renewals:
            return True
    return False


def _renew(run: Storage, key: str, record: _Record, ended: threading.Event) -> None:
    """Says that the trainer lives, until it ends or has lost the run."""
    while not ended.wait(_SECONDS_BETWEEN_RENEWALS):
        record = record._replace(renewals=record.renewals + 1)
        try:
            if _is_newest(run, key):
                run.write(key, _dump(record))
            if not _is_newest(run, key):  # also if the write came back from a long sleep
                run.delete(key)
                return
        except (UserError, JobFailedError, OSError) as error:
            _log.warning("%s; the lease is renewed later", error)


def _is_newest(run: Storage, key: str) -> bool:
    """Whether no trainer came after this one. One comes only if it takes this one for dead."""
    return _keys(run)[-1:] == [key]


def _keys(run: Storage) -> list[str]:
    return [item.key for item in run.list(LEASES)]


def _read(run: Storage, key: str) -> _Record | None:
    try:
        content: dict[str, Any] = json.loads(run.read(key))
        return _Record(**content)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise UserError(f"{run.uri}/{key}: is damaged; delete it if nothing trains here") from error


def _dump(record: _Record) -> bytes:
    return json.dumps(record._asdict()).encode()
