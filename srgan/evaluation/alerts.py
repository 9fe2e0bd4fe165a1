"""The limits that make a nightly evaluation fail: a score too low, or lower than before."""

from collections.abc import Sequence
from typing import NamedTuple

from srgan.evaluation.measures import MEASURES
from srgan.evaluation.table import SRGAN, Means, TableRun, epochs_of

JUDGED = tuple(measure.key for measure in MEASURES if measure.higher_is_better)
"""The measures that can have a limit: they are always taken, and lower is worse."""


_ABSENT = "is absent: on no image has every method a finite value"


class Limit(NamedTuple):
    """A measure's key, and the smallest value or the largest drop that is accepted."""

    measure: str
    value: float


class Alert(NamedTuple):
    """A limit that a generator breaks.

    Attributes:
        limit: The limit in words, the same every night: `psnr_y below 30`.
        text: The line for people.
    """

    limit: str
    text: str


def find_alerts(
    means: Means,
    *,
    epoch: int | None,
    below: Sequence[Limit],
    drop: Sequence[Limit],
    reference: TableRun | None,
) -> list[Alert]:
    """An alert for every limit that a generator breaks. A mean that is absent breaks every limit.

    Args:
        means: The run's means.
        epoch: The epoch of the generator to judge; None, if there is none yet, breaks no limit.
        below: Smallest values that are accepted.
        drop: Largest drops that are accepted, from the row before it in the table.
        reference: Another run; if given, drops are measured from its newest epoch instead.
    """
    if epoch is None:
        return []
    values = means[SRGAN, epoch]
    alerts = []

    def add(limit: str, text: str) -> None:
        alerts.append(Alert(limit, f"epoch {epoch}: {text}"))

    for key, least in below:
        limit = f"{key} below {least:g}"
        if key not in values:
            add(limit, f"{key} {_ABSENT}, so it is not known to reach {least:g}")
        elif values[key] < least:
            add(limit, f"{key} is {values[key]:.4f}, below {least:g}")
    if reference:
        name, others, earlier = f"{reference.name}'s ", reference.means, epochs_of(reference.means)
        place = f" from {reference.uri}"
    else:
        name, others, earlier = "", means, [one for one in epochs_of(means) if one < epoch]
        place = ""
    if not earlier:
        return alerts
    before, where = others[SRGAN, earlier[-1]], f"{name}epoch {earlier[-1]}'s"
    for key, most in drop:
        limit = f"{key} drop {most:g}{place}"
        if key not in values or key not in before:
            add(limit, f"{key} {_ABSENT}, so it is not compared with {where}")
        elif before[key] - values[key] > most:
            add(
                limit,
                f"{key} is {values[key]:.4f}, {before[key] - values[key]:.4f} less than {where}, "
                f"more than {most:g}",
            )
    return alerts
