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


def find_alerts(
    means: Means,
    *,
    epoch: int | None,
    below: Sequence[Limit],
    drop: Sequence[Limit],
    reference: TableRun | None,
) -> list[str]:
    """One line for every limit that a generator breaks. A mean that is absent breaks every limit.

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
    for key, least in below:
        if key not in values:
            alerts.append(f"epoch {epoch}: {key} {_ABSENT}, so it is not known to reach {least:g}")
        elif values[key] < least:
            alerts.append(f"epoch {epoch}: {key} is {values[key]:.4f}, below {least:g}")
    if reference:
        name, others, earlier = f"{reference.name}'s ", reference.means, epochs_of(reference.means)
    else:
        name, others, earlier = "", means, [one for one in epochs_of(means) if one < epoch]
    if not earlier:
        return alerts
    before, where = others[SRGAN, earlier[-1]], f"{name}epoch {earlier[-1]}'s"
    for key, most in drop:
        if key not in values or key not in before:
            alerts.append(f"epoch {epoch}: {key} {_ABSENT}, so it is not compared with {where}")
        elif before[key] - values[key] > most:
            alerts.append(
                f"epoch {epoch}: {key} is {values[key]:.4f}, {before[key] - values[key]:.4f} less "
                f"than {where}, more than {most:g}"
            )
    return alerts
