"""Progress of long work: a bar on a terminal, plain lines in a log."""

import logging
import math
import sys
import time

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
        self._first = self._done = done
        self._start = self._last_line = time.monotonic()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    def advance(self, amount: int = 1) -> None:
        """Counts `amount` more finished pieces."""
        self._done += amount
        self._bar.update(amount)
        now = time.monotonic()
        due = now - self._last_line >= _SECONDS_BETWEEN_LINES or self._done == self._total
        if self._bar.disable and due:
            self._last_line = now
            rate = (self._done - self._first) / max(now - self._start, 1e-9)
            left = duration((self._total - self._done) / rate)
            _log.info("%s: %s a second, %s left", self._label, self._text(rate), left)

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
