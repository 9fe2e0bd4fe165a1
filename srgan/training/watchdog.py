"""Workers that hang are named, shown and ended; the slowest worker of an epoch is named.

The driver watches, since a stopped process cannot tell anything about itself. Ray Train starts the
workers again when one of them is ended.
"""

import logging
import os
import signal
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from data_pipeline.platform.errors import JobFailedError
from data_pipeline.platform.node import remove_unlocked
from srgan.training.failures import Failure
from srgan.training.pulse import STACKS_SIGNAL, Beat, Pace, Place

# Compiling, restoring and saving may take so long.
_LONG_PLACES = (Place.SETUP, Place.FIRST_CALL, Place.SAVE)
_LONG_SECONDS = 3600.0

_SLOWER = 0.2  # of the epoch without the worker's excess
_LEAST_EXCESS_SECONDS = 1.0  # less is noise

# Three beats. TensorFlow takes 10 s to tell the other workers that one does not answer.
_SILENT_SECONDS = 6.0

# A driver that looks again only after so long was stopped itself: old beats say nothing then.
_LONGEST_SECONDS_BETWEEN_LOOKS = 30.0

_SECONDS_FOR_STACKS = 20.0
_SECONDS_FOR_NODE = 60.0  # which starts a process for `_end_process`

_log = logging.getLogger(__name__)


class Seen(NamedTuple):
    """A worker's last beat.

    Attributes:
        beat: The beat.
        silent: Seconds since it came.
        still: Seconds since the first beat with its place and step came.
    """

    beat: Beat
    silent: float
    still: float


class Signs:
    """What the workers told so far. The caller gives the time, in seconds."""

    def __init__(self) -> None:
        self._beats: dict[int, tuple[Beat, float, float]] = {}
        self._paces: dict[str, dict[int, Pace]] = {}

    def note_beat(self, beat: Beat, now: float) -> None:
        """A beat has come."""
        known, since, _ = self._beats.get(beat.rank, (beat, now, now))
        if (known.node, known.pid) != (beat.node, beat.pid):
            self.clear()  # new workers have replaced all that were known
        if known != beat:
            since = now
        self._beats[beat.rank] = (beat, since, now)

    def note_pace(self, pace: Pace) -> list[Pace]:
        """A worker has ended an epoch. Returns the paces of all workers once all have."""
        paces = self._paces.setdefault(pace.epoch, {})
        paces[pace.beat.rank] = pace
        return list(self._paces.pop(pace.epoch).values()) if len(paces) == pace.workers else []

    def leave(self, rank: int) -> None:
        """A worker has ended."""
        self._beats.pop(rank, None)

    def clear(self) -> None:
        """All workers have ended."""
        self._beats.clear()
        self._paces.clear()

    def seen(self, now: float) -> list[Seen]:
        """The workers that train."""
        return [Seen(beat, now - last, now - since) for beat, since, last in self._beats.values()]


class Stall(NamedTuple):
    """A worker that hangs, and what tells so."""

    beat: Beat
    reason: str

    def __str__(self) -> str:
        return f"{self.beat} hangs: {self.reason}"


def find_stalls(seen: Sequence[Seen], limit: float) -> list[Stall]:
    """The workers that hang.

    A worker hangs if no beat of it came for `limit` seconds. If all workers send beats, they hang
    together if each of them has been at one place of one step for longer than `limit`: at least an
    hour where it compiles, sets up or saves, and twice the longest call so far in a call. Then the
    workers that are behind are to blame: those with the lowest step, and of them those outside of a
    call, for which the others wait inside. Where all wait in the same call, all are named: only
    their stacks can tell more.
    """
    if silent := find_silent(seen, limit):
        return silent
    if not seen or any(one.still <= _limit(one.beat, limit) for one in seen):
        return []
    behind = min(_progress(one.beat) for one in seen)
    return [
        Stall(one.beat, f"{_where(one.beat)} for {one.still:.0f} s")
        for one in seen
        if _progress(one.beat) == behind
    ]


def find_silent(seen: Sequence[Seen], limit: float) -> list[Stall]:
    """The workers of which no beat came for `limit` seconds."""
    return [
        Stall(one.beat, f"no sign of life for {one.silent:.0f} s, last seen {_where(one.beat)}")
        for one in seen
        if one.silent > limit
    ]


def _where(beat: Beat) -> str:
    return f"at step {beat.step} {beat.place.value}"


def _limit(beat: Beat, limit: float) -> float:
    if beat.place in _LONG_PLACES:
        return max(limit, _LONG_SECONDS)
    return max(limit, 2 * beat.longest_call) if beat.place == Place.CALL else limit


def _progress(beat: Beat) -> tuple[int, bool]:
    return beat.step, beat.is_in_call


def describe_slowest(paces: Sequence[Pace]) -> str | None:
    """A line that names the slowest worker of an epoch, if it is more than 20 % behind.

    All wait for the slowest one. It is behind by the seconds that it took for itself more than the
    median of the others, and 20 % if the epoch would otherwise have been so much shorter.

    Args:
        paces: Of all workers.

    Returns:
        None if no worker is that slow, or there are no two.
    """
    if len(paces) < 2:
        return None
    slowest = max(paces, key=lambda pace: pace.own)
    others = [pace.own for pace in paces if pace is not slowest]
    excess = slowest.own - median(others)
    if excess < _LEAST_EXCESS_SECONDS or excess <= _SLOWER * (slowest.seconds - excess):
        return None
    return (
        f"{slowest.epoch}: {slowest.beat} was the slowest: of {slowest.seconds:.1f} s it took "
        f"{slowest.own:.1f} s to wait for data and between calls, the others {median(others):.1f} s"
    )


class Watchdog:
    """The driver's look at the workers."""

    def __init__(self, switchboard: Any, minutes: float | None) -> None:
        """Takes a Switchboard, and `failures.stall_minutes`."""
        self._switchboard, self._minutes = switchboard, minutes
        self._looked = time.monotonic()

    def check(self) -> None:
        """Looks once; call it often. Ends workers that hang, which takes some seconds."""
        late = time.monotonic() - self._looked > _LONGEST_SECONDS_BETWEEN_LOOKS
        self._looked = time.monotonic()
        try:
            if late:
                ray.get(self._switchboard.forget_signs.remote())
            seen, lines = ray.get(
                [self._switchboard.seen.remote(), self._switchboard.take_lines.remote()]
            )
        except RayError:
            return  # without a Switchboard the workers end by themselves
        _warn(lines)
        stalls = find_stalls(seen, 60 * self._minutes) if self._minutes else []
        if stalls:
            _warn(map(str, stalls))
            self._switchboard.fail.remote(_failure(stalls))
            self._switchboard.forget_signs.remote()
            _warn(_end(stalls))
            self._looked = time.monotonic()


def end_silent(switchboard: Any) -> None:
    """Ends the workers that sent no beat for some seconds, for a caller that knows of a failure.

    TensorFlow and Ray have limits of their own for a worker that does not answer. They do not say
    why it does not. The driver logs who it was.
    """
    seen = ray.get(switchboard.seen.remote())
    if stalls := find_silent(seen, _SILENT_SECONDS):
        ray.get(switchboard.fail.remote(_failure(stalls)))
        ray.get(switchboard.note_lines.remote([*map(str, stalls), *_end(stalls)]))


def _warn(lines: Iterable[str]) -> None:
    for line in lines:
        _log.warning("%s", line)


def _failure(stalls: Sequence[Stall]) -> Failure:
    told = JobFailedError(f"training failed: {'; '.join(map(str, stalls))}")
    return Failure(told, is_final=False, is_collateral=False)


def _end(stalls: Sequence[Stall]) -> list[str]:
    """Kills workers; Ray Train then starts all of them again. Returns lines with their stacks."""
    tasks = [
        ray.remote(_end_process)
        .options(
            num_cpus=0,
            max_retries=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(stall.beat.node, soft=False),
        )
        .remote(stall.beat.pid, stall.beat.stacks)
        for stall in stalls
    ]
    ray.wait(tasks, num_returns=len(tasks), timeout=_SECONDS_FOR_NODE)
    lines = []
    for stall, task in zip(stalls, tasks, strict=True):
        try:
            lines.append(f"the Python stacks of {stall.beat}:\n{ray.get(task, timeout=0)}")
        except RayError as error:
            lines.append(f"{stall.beat}: its node does not answer: {error}")
    return lines


def _end_process(pid: int, stacks: str) -> str:
    """Kills a worker of this node. Returns the stacks that it writes before."""
    path, text = Path(stacks), "(it has ended)"
    if remove_unlocked(path):
        return text
    # A worker that goes on, since it is not stopped any more, may end and remove its file.
    with suppress(FileNotFoundError, ProcessLookupError), path.open(errors="replace") as file:
        os.kill(pid, STACKS_SIGNAL)
        os.kill(pid, signal.SIGCONT)  # a stopped process gets no other signal
        deadline, size = time.monotonic() + _SECONDS_FOR_STACKS, 0
        while time.monotonic() < deadline and not 0 < size == os.fstat(file.fileno()).st_size:
            size = os.fstat(file.fileno()).st_size
            time.sleep(1)
        text = file.read() or "(it wrote none)"
        os.kill(pid, signal.SIGKILL)
    path.unlink(missing_ok=True)
    return text
