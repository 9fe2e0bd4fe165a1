"""What the driver and the workers ask of each other while a run trains."""

import asyncio
import logging
import time
from typing import Any, NamedTuple

import ray
import ray.train
from ray.exceptions import RayError

from data_pipeline.platform.logs import configure_logging
from srgan.training.failures import Failure
from srgan.training.pulse import Beat, Pace
from srgan.training.rehearsal import Rehearsal
from srgan.training.watchdog import Seen, Signs, describe_slowest

_SECONDS_BETWEEN_LOOKS = 2.0
_SECONDS_BETWEEN_LAST_SAVES = 30.0

_log = logging.getLogger(__name__)


class TrainingEnd(NamedTuple):
    """How a worker ended: after which step of the run, and whether it was asked to stop."""

    step: int
    stopped: bool


@ray.remote(num_cpus=0, max_restarts=0)
class Switchboard:
    """An actor on the driver's node: the driver tells workers to stop, they tell how they are."""

    def __init__(self) -> None:
        configure_logging()
        self._stop = asyncio.Event()
        self._training = False
        self._failures: list[Failure] = []
        self._told: list[Failure] = []
        self._signs = Signs()
        self._lines: list[str] = []

    async def begin(self) -> None:
        """A worker begins to train: from now on there may be something to save."""
        if not self._training:
            self._training = True
            self._failures, self._told = [], []  # of workers that were replaced

    async def fail(self, failure: Failure) -> None:
        """A worker tells why it fails."""
        self._failures.append(failure)

    async def lose_workers(self) -> list[Failure]:
        """All workers have ended; others may begin. Returns why they ended."""
        self._training = False
        self._signs.clear()
        self._told, self._failures = self._failures, []
        return self._told

    async def failures(self) -> list[Failure]:
        """Why the last workers ended that Ray reported."""
        return self._told

    async def beat(self, beat: Beat) -> None:
        """A worker tells that it lives and where it is."""
        self._signs.note_beat(beat, time.monotonic())

    async def leave(self, rank: int) -> None:
        """A worker ends, and sends no more beats."""
        self._signs.leave(rank)

    async def note_pace(self, pace: Pace) -> None:
        """A worker tells how fast it was in an epoch."""
        if line := describe_slowest(self._signs.note_pace(pace)):
            self._lines.append(line)

    async def forget_signs(self) -> None:
        """What workers told does not count any more."""
        self._signs.clear()

    async def seen(self) -> list[Seen]:
        """The workers' last beats."""
        return self._signs.seen(time.monotonic())

    async def note_lines(self, lines: list[str]) -> None:
        """Lines for the driver's log."""
        self._lines += lines

    async def take_lines(self) -> list[str]:
        """The lines that came since the last call."""
        lines, self._lines = self._lines, []
        return lines

    async def is_training(self) -> bool:
        """Whether workers have begun and have not ended."""
        return self._training

    async def stop(self) -> bool:
        """Asks the workers to save and end. Returns whether there are any."""
        self._stop.set()
        return self._training

    async def wait_for_stop(self) -> None:
        """Ends when the workers are asked to stop."""
        await self._stop.wait()


class StopRequest:
    """The driver's wish to stop, as a worker sees it."""

    def __init__(self, switchboard: Any) -> None:
        """Tells the Switchboard that training begins."""
        ray.get(switchboard.begin.remote())
        self._stop = switchboard.wait_for_stop.remote()

    def is_made(self) -> bool:
        """Whether the driver asked; takes microseconds. A driver that is gone never asks."""
        if not ray.wait([self._stop], timeout=0)[0]:
            return False
        try:
            ray.get(self._stop)
        except RayError:
            return False
        return True


class Requests(NamedTuple):
    """What a worker asks of all workers. Summed over the workers: above 0, some worker asks.

    Attributes:
        stop: Save, then end.
        save: Save.
        look: Ask Ray Train whether a node is about to be taken away: all workers or none.
        enough: End the phase: the dry run has measured it.
    """

    stop: float
    save: float
    look: float
    enough: float


class Requester:
    """Knows what is due. Only the first worker asks; all workers do what it asks for."""

    def __init__(
        self,
        stop: StopRequest,
        *,
        every_minutes: float | None,
        is_first: bool,
        rehearsal: Rehearsal | None,
    ) -> None:
        """Begins to count the minutes between saves."""
        self._stop, self._every_minutes, self._is_first = stop, every_minutes, is_first
        self._rehearsal = rehearsal
        self._saved = self._looked = time.monotonic()
        self._preemption: Any = None

    def own(self) -> Requests:
        """What this worker asks for now."""
        if not self._is_first:
            return Requests(0.0, 0.0, 0.0, 0.0)
        now = time.monotonic()
        unsaved = now - self._saved
        save = self._every_minutes is not None and unsaved >= 60 * self._every_minutes
        save |= self._preemption is not None and unsaved >= _SECONDS_BETWEEN_LAST_SAVES
        look = now - self._looked >= _SECONDS_BETWEEN_LOOKS
        if look:
            self._looked = now
        enough = self._rehearsal is not None and self._rehearsal.is_enough()
        return Requests(float(self._stop.is_made()), float(save), float(look), float(enough))

    def note_save(self) -> None:
        """A save begins: the minutes count from now on."""
        self._saved = time.monotonic()

    def is_preempted(self, requests: Requests) -> bool:
        """Whether Ray announces a lost node that it did not announce before."""
        if not requests.look:
            return False
        known, self._preemption = self._preemption, ray.train.get_preemption_info()
        if self._preemption is None or self._preemption == known:
            return False
        if self._is_first:
            _log.warning("a node is about to be taken away: saving")
        return True
