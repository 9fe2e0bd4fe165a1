"""What workers ask of each other after every call of the compiled steps."""

import logging
import time
from typing import Any, NamedTuple

import ray.train

from srgan.training.stop_switch import StopRequest

_SECONDS_BETWEEN_LOOKS = 2.0
_SECONDS_BETWEEN_LAST_SAVES = 30.0

_log = logging.getLogger(__name__)


class Requests(NamedTuple):
    """What a worker asks of all of them; summed up, what some worker asks.

    Attributes:
        stop: Save, then end.
        save: Save.
        look: Ask Ray Train whether a node is about to be taken away: all workers or none.
    """

    stop: float
    save: float
    look: float


class Requester:
    """Knows what is due; only the first worker asks, and all do what it asked for."""

    def __init__(self, stop: StopRequest, *, every_minutes: float | None, is_first: bool) -> None:
        """Begins to count the minutes between saves."""
        self._stop, self._every_minutes, self._is_first = stop, every_minutes, is_first
        self._saved = self._looked = time.monotonic()
        self._preemption: Any = None

    def own(self) -> Requests:
        """What this worker asks for now."""
        if not self._is_first:
            return Requests(0.0, 0.0, 0.0)
        now = time.monotonic()
        unsaved = now - self._saved
        save = self._every_minutes is not None and unsaved >= 60 * self._every_minutes
        save |= self._preemption is not None and unsaved >= _SECONDS_BETWEEN_LAST_SAVES
        look = now - self._looked >= _SECONDS_BETWEEN_LOOKS
        if look:
            self._looked = now
        return Requests(float(self._stop.is_made()), float(save), float(look))

    def note_save(self) -> None:
        """A save begins: the minutes count from now on."""
        self._saved = time.monotonic()

    def is_preempted(self, requests: Requests) -> bool:
        """Whether Ray newly announces that a node goes; training goes on until it does."""
        if not requests.look:
            return False
        known, self._preemption = self._preemption, ray.train.get_preemption_info()
        if self._preemption is None or self._preemption == known:
            return False
        if self._is_first:
            _log.warning("a node is about to be taken away: saving")
        return True
