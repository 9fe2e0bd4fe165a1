"""Progress of long work: a bar on a terminal, plain lines in a log."""

import logging
import math
import sys
import time
from collections import deque

from tqdm import tqdm

BYTES = "B"

_DATA_UNITS = ("B", "kB", "MB", "GB", "TB")
_SECONDS_BETWEEN_LINES = 10.0

_log = logging.getLogger(__name__)


class Progress:
    """Counts finished pieces and shows count, rate and time left. A context manager.

    Args:
        label: Names the work.
        total: Number of pieces.
        unit: Name of the pieces, in the plural; BYTES are shown as MB, GB.
        done: Number of pieces that an earlier attempt finished; they do not count in the rate.

    The rate is that of the later half of the time so far: the first pieces wait for processes to
    start, and a speed that changes shows.
    """

    def __init__(self, label: str, total: int, unit: str, done: int = 0) -> None:
        self._label, self._total, self._unit = label, total, unit
        self._bar = tqdm(
            total=total,
            initial=done,
            desc=label,
            unit=unit,
            unit_scale=unit == BYTES,
            disable=not sys.stderr.isatty(),
            dynamic_ncols=True,
        )
        self._done = done
        self._start = self._last_line = time.monotonic()
        self._marks = deque([(self._start, done)])  # of the later half, and one before it

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    def advance(self, amount: int = 1) -> None:
        """Counts `amount` more finished pieces."""
        self._done += amount
        self._bar.update(amount)
        now = time.monotonic()
        self._marks.append((now, self._done))
        while self._marks[1][0] < (self._start + now) / 2:
            self._marks.popleft()
        due = now - self._last_line >= _SECONDS_BETWEEN_LINES or self._done == self._total
        if self._bar.disable and due:
            self._last_line = now
            since, before = self._marks[0]
            rate = (self._done - before) / max(now - since, 1e-9)
            missing = self._total - self._done
            if missing and not rate:
                left = "time left not known yet"
            else:
                left = f"{duration(missing and missing / rate)} left"
            _log.info("%s: %s a second, %s", self._label, self._text(rate), left)

    def _text(self, rate: float) -> str:
        if self._unit == BYTES:
            return f"{data_size(self._done)} of {data_size(self._total)}, {data_size(rate)}"
        return f"{self._done} of {self._total} {self._unit}, {rate:.3g}"


def data_size(count: float) -> str:
    """Bytes as `512 B`, `11 MB` or `3.5 GB`."""
    power = min(int(math.log10(max(count, 1))) // 3, len(_DATA_UNITS) - 1)
    value = count / 1000**power
    return f"{value:.{1 if power and value < 10 else 0}f} {_DATA_UNITS[power]}"


def duration(seconds: float) -> str:
    """Seconds as `1:02:03` or `2:03`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
