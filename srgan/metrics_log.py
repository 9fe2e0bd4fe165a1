"""metrics.jsonl: what a run measured, one JSON object per epoch."""

import json
from typing import Any

from data_pipeline.platform.storage import Storage
from srgan.run_layout import METRICS_KEY


class MetricsLog:
    """Writes RUN's metrics.jsonl; the whole file each time: object storage cannot append."""

    def __init__(self, storage: Storage, *, step: int) -> None:
        """Opens the log as it was after `step` steps; the run will make later lines again."""
        self._storage = storage
        self._records = [record for record in read_metrics(storage) if record["step"] <= step]

    def append(self, record: dict[str, Any]) -> None:
        """Adds a line."""
        self._records.append(record)
        lines = "".join(json.dumps(record) + "\n" for record in self._records)
        self._storage.write(METRICS_KEY, lines.encode())


def read_metrics(storage: Storage) -> list[dict[str, Any]]:
    """The lines of RUN's metrics.jsonl; empty if there is no such file."""
    if storage.size(METRICS_KEY) is None:
        return []
    return [json.loads(line) for line in storage.read(METRICS_KEY).splitlines()]
