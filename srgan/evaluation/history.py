"""history.csv: a run's scores at each evaluation, for example every night.

Each evaluation writes an object of its own, history/<time>.json, so that evaluations that run at
the same time do not overwrite each other's; the table is made from all of them.
"""

import csv
import datetime
import io
import json
from collections.abc import Sequence
from typing import Any

from data_pipeline.platform.errors import UserError
from data_pipeline.platform.storage import Storage, read_many
from srgan.evaluation.measures import MEASURES
from srgan.evaluation.table import SRGAN, Means, epochs_of

_RECORDS = "history/"
_COLUMNS = ("time", "epochs", "epoch", *(measure.key for measure in MEASURES), "alerts")


def write_record(
    out: Storage,
    time: datetime.datetime,
    means: Means,
    *,
    epoch: int | None,
    alerts: Sequence[str],
) -> None:
    """Writes an evaluation's record, and the table of all records.

    Args:
        out: Where the evaluation is stored.
        time: Its time in UTC.
        means: The run's means.
        epoch: The epoch of the generator that was judged, whose means go into the record; None if
            there is no generator.
        alerts: The limits that it breaks, from `find_alerts`.

    Raises:
        UserError: If a record is damaged.
    """
    values = means[SRGAN, epoch] if epoch is not None else {}
    rounded = {key: round(value, 4) for key, value in values.items()}
    record = {
        "time": f"{time:%Y-%m-%dT%H:%M:%S.%fZ}",
        "epochs": len(epochs_of(means)),
        "epoch": epoch,
        **{measure.key: rounded.get(measure.key) for measure in MEASURES},
        "alerts": "; ".join(alerts),
    }
    out.write(f"{_RECORDS}{record['time']}.json", json.dumps(record, allow_nan=False).encode())
    keys = [item.key for item in out.list(_RECORDS) if item.key.endswith(".json")]
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    for key, data in read_many(out, keys).items():
        writer.writerow(_parse(f"{out.uri}/{key}", data))
    out.write("history.csv", text.getvalue().encode())


def _parse(where: str, data: bytes) -> dict[str, Any]:
    try:
        # Records of older versions may hold Infinity, which is no JSON; it is no mean now.
        record = json.loads(data, parse_constant=lambda _: None)
        return {name: "" if record.get(name) is None else record[name] for name in _COLUMNS}
    except (ValueError, AttributeError) as error:
        raise UserError(f"{where}: is damaged; delete it") from error
