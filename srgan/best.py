"""`best.json` of a RUN: which epoch is best, by which measure, and of which images."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from data_pipeline.platform.errors import UserError
from data_pipeline.platform.storage import Storage
from srgan.run_layout import BEST_KEY, generator_key


class Best(NamedTuple):
    """The best epoch of a RUN.

    Attributes:
        epoch: The epoch.
        sha256: The sha256 of its generator's file.
        measure: The measure's key, as `lpips`.
        value: The epoch's mean.
        unit: Of the value; "" for none.
        data: The name of the images.
        images: How many they are.
        left_out: How many of them are not in the means.
        of_epochs: The mean of every epoch that was compared.
        written: When, in UTC: `2026-01-31T03:12:45Z`.
    """

    epoch: int
    sha256: str
    measure: str
    value: float
    unit: str
    data: str
    images: int
    left_out: int
    of_epochs: dict[int, float]
    written: str


def best_epoch(means: Mapping[int, float], *, higher_is_better: bool) -> int:
    """The epoch with the best mean; of equal ones the earliest."""
    sign = -1 if higher_is_better else 1
    return min(means, key=lambda epoch: (sign * means[epoch], epoch))


def write_best(run: Storage, best: Best) -> None:
    """Writes `best.json`, whole or not at all, in place of an earlier one."""
    described = {"generator": generator_key(best.epoch), **best._asdict()}
    run.write(BEST_KEY, json.dumps(described, indent=1, allow_nan=False).encode())


def read_best(run: Storage) -> Best:
    """Reads `best.json`.

    Raises:
        UserError: If there is none, or it is damaged.
    """
    fix = f"run python -m jobs.evaluate --run {run.uri} --best-by lpips"
    try:
        described: dict[str, Any] = json.loads(run.read(BEST_KEY))
        epochs = described["of_epochs"].items()
        described["of_epochs"] = {int(epoch): float(value) for epoch, value in epochs}
        return Best(**{name: described[name] for name in Best._fields})
    except FileNotFoundError as error:
        raise UserError(f"{run.uri}: has no {BEST_KEY}; {fix} first") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{run.uri}/{BEST_KEY}: is damaged; {fix} again") from error
