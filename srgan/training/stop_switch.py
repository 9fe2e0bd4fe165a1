"""A switch on the driver's node by which a signal reaches the training workers."""

import asyncio
from typing import Any

import ray
from ray.exceptions import RayError


@ray.remote(num_cpus=0, max_restarts=0)
class StopSwitch:
    """An actor: workers wait for it to be flipped, the driver flips it."""

    def __init__(self) -> None:
        self._flipped = asyncio.Event()
        self._training = False

    async def begin(self) -> None:
        """Workers have begun to train: from now on there may be something to save."""
        self._training = True

    async def lose(self) -> None:
        """The workers have ended; others may begin."""
        self._training = False

    async def is_training(self) -> bool:
        """Whether workers have begun and not been lost."""
        return self._training

    async def flip(self) -> bool:
        """Asks the workers to save and end. Returns whether there are any."""
        self._flipped.set()
        return self._training

    async def wait(self) -> None:
        """Ends when the switch is flipped."""
        await self._flipped.wait()


class StopRequest:
    """The switch as a worker sees it."""

    def __init__(self, switch: Any) -> None:
        """Tells the switch, a StopSwitch, that training has begun."""
        ray.get(switch.begin.remote())
        self._flipped = switch.wait.remote()

    def is_made(self) -> bool:
        """Whether the switch is flipped; takes microseconds. A switch that is gone never is."""
        if not ray.wait([self._flipped], timeout=0)[0]:
            return False
        try:
            ray.get(self._flipped)
        except RayError:
            return False
        return True
