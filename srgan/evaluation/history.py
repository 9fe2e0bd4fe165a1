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
from srgan.evaluation.alerts import Alert
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
    generator: str,
    alerts: Sequence[Alert],
    told: Sequence[Alert],
    posted: Sequence[Alert],
) -> None:
    """Writes an evaluation's record, and the table of all records.

    Args:
        out: Where the evaluation is stored.
        time: Its time in UTC.
        means: The run's means.
        epoch: The epoch of the generator that was judged, whose means go into the record; None if
            there is no generator.
        generator: The sha256 of this generator's file; "" if there is none.
        alerts: The limits that it breaks, from `too_low` and `dropped`.
        told: Those of them that this evaluation tells.
        posted: Those of them that it posted to a webhook.

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
        "alerts": "; ".join(alert.text for alert in alerts),
        "generator": generator,
        "told": [alert.limit for alert in told],
        "posted": [alert.limit for alert in posted],
    }
    out.write(f"{_RECORDS}{record['time']}.json", json.dumps(record, allow_nan=False).encode())
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for one in _read(out):
        writer.writerow({name: "" if one.get(name) is None else one[name] for name in _COLUMNS})
    out.write("history.csv", text.getvalue().encode())


def told_limits(out: Storage, generator: str) -> tuple[dict[str, str], set[str]]:
    """The limits that earlier evaluations told of a generator.

    Args:
        out: Where the evaluation is stored.
        generator: The sha256 of the generator's file.

    Returns:
        The newest date of each, and those that a webhook got. Records of older versions do not
        say what a webhook got; their limits count as not posted, so one may be posted again.

    Raises:
        UserError: If a record is damaged.
    """
    # Records of still older versions have no generator.
    records = [record for record in _read(out) if record.get("generator") == generator]
    told = {limit: record["time"][:10] for record in records for limit in record["told"]}
    return told, {limit for record in records for limit in record.get("posted", ())}


def _read(out: Storage) -> list[dict[str, Any]]:
    """All records, in the order of their times."""
    keys = [item.key for item in out.list(_RECORDS) if item.key.endswith(".json")]
    return [_parse(f"{out.uri}/{key}", data) for key, data in read_many(out, keys).items()]


def _parse(where: str, data: bytes) -> dict[str, Any]:
    try:
        # Records of older versions may hold Infinity, which is no JSON; it is no mean now.
        record = json.loads(data, parse_constant=lambda _: None)
    except ValueError as error:
        raise UserError(f"{where}: is damaged; delete it") from error
    if not isinstance(record, dict):
        raise UserError(f"{where}: is damaged; delete it")
    return record
