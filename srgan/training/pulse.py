"""What a worker tells the driver while it trains: that it lives, where it is, how fast it was.

A worker's thread sends a beat every few seconds, whatever the training thread does. A beat is
missing where the whole process is stopped, its node hangs, or the network is cut.
"""

import faulthandler
import os
import signal
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from enum import Enum
from types import TracebackType
from typing import Any, NamedTuple

import ray
import ray.train
from ray.exceptions import RayError

from data_pipeline.platform.node import scratch_file

# A worker that gets it writes its stacks. Python's handler needs no lock, so it also works while
# the training thread hangs in TensorFlow.
STACKS_SIGNAL = signal.SIGUSR1

_SECONDS_BETWEEN_BEATS = 2.0
_SECONDS_FOR_A_BEAT = 10.0


class Place(Enum):
    """Where a worker is; the value is for messages."""

    SETUP = "in its set-up"
    FIRST_CALL = "in a phase's first call"  # which compiles
    CALL = "in a call of the steps"
    BETWEEN = "between two calls"
    SAVE = "in a save"


class Beat(NamedTuple):
    """A sign of life.

    Attributes:
        rank: The worker's.
        address: Its node's.
        node: Its node's id in Ray.
        pid: Its process.
        stacks: A file on its node. The process writes its stacks there at `STACKS_SIGNAL`.
        place: Where the training thread is.
        step: Steps of the run that are done; 0 in the set-up.
        longest_call: Seconds of the longest call so far, but for first ones, which compile.
    """

    rank: int
    address: str
    node: str
    pid: int
    stacks: str
    place: Place = Place.SETUP
    step: int = 0
    longest_call: float = 0.0

    @property
    def is_in_call(self) -> bool:
        """Whether the worker is where it may wait for others."""
        return self.place in (Place.FIRST_CALL, Place.CALL)

    def __str__(self) -> str:
        return f"worker {self.rank} (process {self.pid} on node {self.address})"


class Pace(NamedTuple):
    """A worker's part in an epoch.

    Attributes:
        epoch: Such as `gan epoch 3`.
        workers: How many there are.
        beat: Who it is.
        own: Seconds in which the others may have waited for this worker, as `own_seconds`.
        seconds: The whole epoch's.
    """

    epoch: str
    workers: int
    beat: Beat
    own: float
    seconds: float


def own_seconds(sums: Mapping[str, float]) -> float:
    """Seconds of an epoch that a worker took for itself: waits for data, and Python between calls.

    The steps of all workers end together, so what a worker takes inside a step is only known for
    the wait for data. **A device that computes slowly is not seen**: from outside, its peers' steps
    last as long as its own. The first worker's saves do not count.

    Args:
        sums: `EpochTotals.sums`.
    """
    outside = sums["seconds"] - sums["call_seconds"] - sums.get("save_seconds", 0)
    return sums["data_wait_seconds"] + max(0.0, outside)


class Pulse:
    """The beats of this worker, for the time of a `with` block."""

    def __init__(self, switchboard: Any) -> None:
        """Takes a Switchboard."""
        self._switchboard = switchboard
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._send, name="pulse", daemon=True)
        self._resources = ExitStack()

    def __enter__(self) -> "Pulse":
        stacks = self._resources.enter_context(scratch_file("stacks"))
        file = self._resources.enter_context(stacks.open("wb"))
        faulthandler.register(STACKS_SIGNAL, file)
        self._resources.callback(faulthandler.unregister, STACKS_SIGNAL)
        self._beat = Beat(
            rank=ray.train.get_context().get_world_rank(),
            address=ray.util.get_node_ip_address(),
            node=ray.get_runtime_context().get_node_id(),
            pid=os.getpid(),
            stacks=str(stacks),
        )
        self._since = time.monotonic()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join(_SECONDS_FOR_A_BEAT)
        with suppress(RayError):  # a driver that is gone watches nobody
            ray.get(self._switchboard.leave.remote(self._beat.rank))
        self._resources.close()

    def at(self, place: Place, step: int) -> None:
        """The training thread is at another place now."""
        before, now = self._beat, time.monotonic()
        longest = before.longest_call
        if before.place == Place.CALL:
            longest = max(longest, now - self._since)
        self._beat = before._replace(place=place, step=step, longest_call=longest)
        self._since = now

    def end_epoch(self, epoch: str, sums: Mapping[str, float]) -> None:
        """Tells how fast this worker was.

        Args:
            epoch: Its name for messages.
            sums: `EpochTotals.sums`.
        """
        workers = ray.train.get_context().get_world_size()
        pace = Pace(epoch, workers, self._beat, own_seconds(sums), sums["seconds"])
        self._switchboard.note_pace.remote(pace)

    def _send(self) -> None:
        while True:
            with suppress(RayError):  # the next one may arrive
                ray.get(self._switchboard.beat.remote(self._beat))
            if self._ended.wait(_SECONDS_BETWEEN_BEATS):
                return
