"""How many requests a rater, or an address without a rater, may make. Pure but for its memory."""

from collections import OrderedDict

_RATE = 10.0  # requests a second, on average
_BURST = 100.0
_MOST_KEYS = 10_000


class RequestLimit:
    """A bucket of requests for every key: it holds 100 and gets 10 a second."""

    def __init__(self) -> None:
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def seconds_to_wait(self, key: str, now: float) -> float:
        """Takes one request; 0 if there was one, else the seconds until there is.

        Args:
            key: Whose request it is. Those that were not heard of for longest are forgotten.
            now: Seconds of a clock that never goes back.
        """
        left, since = self._buckets.pop(key, (_BURST, now))
        left = min(_BURST, left + (now - since) * _RATE)
        wait = max(0.0, (1.0 - left) / _RATE)
        self._buckets[key] = (left if wait else left - 1.0, now)
        if len(self._buckets) > _MOST_KEYS:
            self._buckets.popitem(last=False)
        return wait
