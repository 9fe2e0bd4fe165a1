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


class Limits(NamedTuple):
    """What makes an evaluation fail.

    Attributes:
        below: Smallest values that are accepted.
        drop: Largest drops that are accepted.
        reference: Another RUN, if drops are measured from its newest epoch.
    """

    below: Sequence[Limit] = ()
    drop: Sequence[Limit] = ()
    reference: str | None = None


class Alert(NamedTuple):
    """A limit that a generator breaks.

    Attributes:
        limit: The limit in words, the same every night: `psnr_y below 30`.
        text: The line for people.
    """

    limit: str
    text: str


def too_low(means: Means, epoch: int | None, limits: Sequence[Limit]) -> list[Alert]:
    """An alert for every measure that is below its limit, or absent.

    Args:
        means: The run's means.
        epoch: The epoch of the generator to judge; None, if there is none yet, breaks no limit.
        limits: Smallest values that are accepted.
    """
    if epoch is None:
        return []
    values = means[SRGAN, epoch]
    alerts = []
    for key, least in limits:
        if key not in values:
            text = f"{key} {_ABSENT}, so it is not known to reach {_exact(least)}"
        elif values[key] < least:
            text = f"{key} is {values[key]:.4f}, below {_exact(least)}"
        else:
            continue
        alerts.append(Alert(f"{key} below {_exact(least)}", f"epoch {epoch}: {text}"))
    return alerts


def dropped(
    means: Means, epoch: int | None, limits: Sequence[Limit], reference: TableRun | None
) -> list[Alert]:
    """An alert for every measure that fell by more than its limit, or is absent.

    Args:
        means: The run's means.
        epoch: The epoch of the generator to judge; None, if there is none yet, breaks no limit.
        limits: Largest drops that are accepted, from the row before it in the table.
        reference: Another run; if given, drops are measured from its newest epoch instead.
    """
    if epoch is None:
        return []
    if reference:
        name, others, earlier = f"{reference.name}'s ", reference.means, epochs_of(reference.means)
        place = f" from {reference.uri}"
    else:
        name, others, earlier = "", means, [one for one in epochs_of(means) if one < epoch]
        place = ""
    if not earlier:
        return []
    values = means[SRGAN, epoch]
    before, where = others[SRGAN, earlier[-1]], f"{name}epoch {earlier[-1]}'s"
    alerts = []
    for key, most in limits:
        if key not in values or key not in before:
            text = f"{key} {_ABSENT}, so it is not compared with {where}"
        elif before[key] - values[key] > most:
            text = (
                f"{key} is {values[key]:.4f}, {before[key] - values[key]:.4f} less than {where}, "
                f"more than {_exact(most)}"
            )
        else:
            continue
        alerts.append(Alert(f"{key} drop {_exact(most)}{place}", f"epoch {epoch}: {text}"))
    return alerts


def _exact(value: float) -> str:
    """A limit as the user wrote it: no other number has the same text."""
    return repr(value).removesuffix(".0")
