"""Progress of long work: a bar on a terminal, plain lines in a log."""

import logging
import sys
import time

from tqdm import tqdm

_SECONDS_BETWEEN_LINES = 10.0

_log = logging.getLogger(__name__)


class Progress:
    """Counts finished pieces; shows count, rate and time left. A context manager."""

    def __init__(self, label: str, total: int, unit: str) -> None:
        self._label, self._total, self._unit = label, total, unit
        self._bar = tqdm(
            total=total, desc=label, unit=unit, disable=not sys.stderr.isatty(), dynamic_ncols=True
        )
        self._done = 0
        self._start = self._last_line = time.monotonic()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    def advance(self) -> None:
        """One more piece is finished."""
        self._done += 1
        self._bar.update()
        now = time.monotonic()
        due = now - self._last_line >= _SECONDS_BETWEEN_LINES or self._done == self._total
        if self._bar.disable and due:
            self._last_line = now
            rate = self._done / max(now - self._start, 1e-9)
            left = (self._total - self._done) / rate
            _log.info(
                "%s: %d of %d %s, %.3g a second, %s left",
                self._label,
                self._done,
                self._total,
                self._unit,
                rate,
                duration(left),
            )


def duration(seconds: float) -> str:
    """Seconds as `1:02:03` or `2:03`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
