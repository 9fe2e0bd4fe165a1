"""metrics.jsonl: what a run measured, one JSON object per epoch."""

import json
import threading
from collections.abc import Mapping
from typing import Any

from data_pipeline.platform.storage import Storage
from srgan.run_layout import METRICS_KEY


class MetricsLog:
    """Writes RUN's metrics.jsonl; the whole file each time: object storage cannot append.

    Several threads may use it.
    """

    def __init__(self, storage: Storage, *, step: int) -> None:
        """Opens the log as it was after `step` steps; the run will make later lines again."""
        self._storage = storage
        self._records = [record for record in read_metrics(storage) if record["step"] <= step]
        self._lock = threading.Lock()

    @property
    def records(self) -> list[dict[str, Any]]:
        """The lines so far."""
        with self._lock:
            return list(self._records)

    def append(self, record: Mapping[str, Any]) -> None:
        """Adds the line of an epoch."""
        with self._lock:
            self._write([*self._records, dict(record)])

    def complete(self, step: int, values: Mapping[str, Any]) -> None:
        """Adds values to the line of the epoch that ended after `step` steps of the run."""
        with self._lock:
            self._write(
                [one | dict(values) if one["step"] == step else one for one in self._records]
            )

    def _write(self, records: list[dict[str, Any]]) -> None:
        lines = "".join(json.dumps(record, allow_nan=False) + "\n" for record in records)
        self._storage.write(METRICS_KEY, lines.encode())
        self._records = records


def read_metrics(storage: Storage) -> list[dict[str, Any]]:
    """The lines of RUN's metrics.jsonl; empty if there is no such file.

    A line has no `validation_...` and `bicubic_...` where its epoch was not validated. A mean of no
    image is None; so is Infinity, which is no JSON, in the lines of older versions.
    """
    if storage.size(METRICS_KEY) is None:
        return []
    lines = storage.read(METRICS_KEY).splitlines()
    return [json.loads(line, parse_constant=lambda _: None) for line in lines]
