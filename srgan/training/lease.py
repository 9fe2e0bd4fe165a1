"""One trainer at a time writes to a RUN: RUN/lease/<number>.json says which one, and that it lives.

The trainer holds a file lock on its own node, which the kernel drops when it dies, and renews the
lease every few seconds for the other nodes. A lease whose trainer is dead is replaced by one with
the next number. Storage creates an object only once, so of several trainers one gets it. Where an
S3 server cannot promise that, a slow put may replace another trainer's lease: that one finds a
token that is not its own before it writes, and ends.
"""

import fcntl
import json
import logging
import os
import random
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
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
_LONGEST_LOOK_SECONDS = 10.0

_log = logging.getLogger(__name__)


class _Record(NamedTuple):
    """What a lease says.

    Attributes:
        host: The trainer's machine.
        pid: Its driver's process there.
        since: When it began.
        token: Tells this lease from an earlier or later one of the same number.
        lock: Name of the file in the node's folder that the driver keeps locked; "" where the
            file system has no locks.
        renewals: How often it said that it lives.
    """

    host: str
    pid: int
    since: str
    token: str
    lock: str
    renewals: int


class Lease:
    """A held lease. Can be sent to workers, which check it before they write."""

    def __init__(self, run: Storage, key: str, token: str) -> None:
        self._run, self._key, self._token = run, key, token

    def is_held(self) -> bool:
        """Whether no trainer came after this one. One comes only if it takes this one for dead."""
        return _keys(self._run)[-1:] == [self._key] and self._is_own()

    def check(self) -> None:
        """Raises LostRunError if another trainer has taken the run over."""
        if not self.is_held():
            raise LostRunError(f"{self._run.uri}: another training has taken it over")

    def write(self, record: _Record) -> None:
        """Replaces the stored record."""
        self._run.write(self._key, _dump(record))

    def remove(self) -> None:
        """Deletes the lease, unless it is another trainer's by now."""
        if self._is_own():
            self._run.delete(self._key)

    def _is_own(self) -> bool:
        record = _read(self._run, self._key)
        return record is not None and record.token == self._token


@contextmanager
def hold_lease(run: Storage) -> Iterator[Lease]:
    """Keeps other trainers from a RUN for the block's time.

    Raises:
        UserError: If another one lives: its host, process and beginning are named.
    """
    handle, path = locked_file(node_folder("leases"), "", ".lease")
    try:
        record = _Record(
            host=socket.gethostname(),
            pid=os.getpid(),
            since=f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M:%S} UTC",
            token=uuid.uuid4().hex,
            lock=path.name if _is_locked(handle) else "",
            renewals=0,
        )
        lease = _take(run, record)
        ended = threading.Event()
        renewing = threading.Thread(target=_renew, args=(run, lease, record, ended), daemon=True)
        renewing.start()
        try:
            yield lease
        finally:
            ended.set()
            renewing.join()
            try:
                lease.remove()
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


def _take(run: Storage, record: _Record) -> Lease:
    dead: dict[str, str] = {}  # token by key
    while True:
        for key, other in _others(run, dead):
            if _lives(run, key, other):
                raise UserError(
                    f"{run.uri}: is being trained by process {other.pid} on {other.host} since "
                    f"{other.since}; wait for it or stop it, or choose another --run"
                )
            _log.info("%s: its trainer on %s is dead: taken over", run.uri, other.host)
            dead[key] = other.token
        number = max((int(PurePosixPath(key).stem) for key in dead), default=0)
        mine = f"{LEASES}{number + 1:06}.json"
        lease = Lease(run, mine, record.token)
        try:
            run.write_new(mine, _dump(record))
        except FileExistsError:
            continue  # another trainer was faster: look at it
        if any(one.token != record.token for _, one in _others(run, dead)):
            lease.remove()  # another one began meanwhile: both look again
            time.sleep(random.uniform(0, _SECONDS_BETWEEN_LOOKS))  # noqa: S311  no secret
            continue
        for key, token in dead.items():
            Lease(run, key, token).remove()
        return lease


def _others(run: Storage, dead: Mapping[str, str]) -> list[tuple[str, _Record]]:
    """The leases that are not known to be of dead trainers."""
    found = [(key, _read(run, key)) for key in _keys(run)]
    return [(key, one) for key, one in found if one and dead.get(key) != one.token]


def _lives(run: Storage, key: str, record: _Record) -> bool:
    """Whether a lease's trainer lives. No clocks are compared: those of nodes differ."""
    if record.lock:
        lock = node_folder("leases") / Path(record.lock).name  # RUN may come from anybody
        if lock.exists():  # this node's
            return not remove_unlocked(lock)
    _log.info(
        "%s: waiting up to %.0f s to see whether its trainer on %s lives",
        run.uri,
        _SECONDS_UNTIL_DEAD,
        record.host,
    )
    silent = 0.0
    while silent < _SECONDS_UNTIL_DEAD:
        began = time.monotonic()
        time.sleep(_SECONDS_BETWEEN_LOOKS)
        now = _read(run, key)
        if now is None or now.token != record.token:
            return False
        if now.renewals != record.renewals:
            return True
        # After an outage of the storage the trainer gets its time again.
        is_outage = time.monotonic() - began > _LONGEST_LOOK_SECONDS
        silent = 0.0 if is_outage else silent + _SECONDS_BETWEEN_LOOKS
    return False


def _renew(run: Storage, lease: Lease, record: _Record, ended: threading.Event) -> None:
    """Says that the trainer lives, until it ends or has lost the run."""
    while not ended.wait(_SECONDS_BETWEEN_RENEWALS):
        record = record._replace(renewals=record.renewals + 1)
        try:
            if lease.is_held():
                lease.write(record)
            if not lease.is_held():  # also if the write came back from a long sleep
                lease.remove()
                _log.warning("%s: another training has taken it over", run.uri)
                return
        except (UserError, JobFailedError, OSError) as error:
            _log.warning("%s; the lease is renewed later", error)


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
