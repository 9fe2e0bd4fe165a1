"""Mean opinion scores in an evaluation's tables. A study writes them; every evaluation reads them.

They lie beside the score files and are no part of the protocol: people rated the pictures, the
evaluation did not.
"""

import json
import logging
from collections.abc import Collection
from typing import NamedTuple

from data_pipeline.platform.errors import UserError
from data_pipeline.platform.storage import Storage
from srgan.evaluation.measures import MOS, SIMULATED_MOS
from srgan.evaluation.run_reader import generator_name
from srgan.evaluation.score_files import ScoreFile
from srgan.evaluation.table import SRGAN, SRRESNET, Means, TableRun

OPINIONS_KEY = "mos.json"

_log = logging.getLogger(__name__)


class Opinions(NamedTuple):
    """The mean opinion scores of a study.

    Attributes:
        study: The study's name.
        simulated: Whether its raters do not exist.
        raters: How many raters count.
        epoch: The epoch of the method `srgan`.
        generators: The sha256 of the generators that were rated, by name.
        scores: By method: the mean and the ends of its 95 % interval; None with too few raters.
    """

    study: str
    simulated: bool
    raters: int
    epoch: int
    generators: dict[str, str]
    scores: dict[str, tuple[float, float | None, float | None]]


def write_opinions(out: Storage, opinions: Opinions) -> bool:
    """Stores the scores for the tables. Later ones replace earlier ones of any study.

    Returns:
        False if they are simulated and real ones are stored, which stay.
    """
    stored = read_opinions(out)
    if stored and opinions.simulated and not stored.simulated:
        return False
    out.write(OPINIONS_KEY, json.dumps(opinions._asdict(), indent=1, allow_nan=False).encode())
    return True


def read_opinions(out: Storage) -> Opinions | None:
    """The stored scores; None if no study was scored.

    Raises:
        UserError: If they are damaged.
    """
    if out.size(OPINIONS_KEY) is None:
        return None
    try:
        stored = Opinions(**json.loads(out.read(OPINIONS_KEY)))
        scores = {
            method: (float(mean), low, high) for method, (mean, low, high) in stored.scores.items()
        }
        return stored._replace(scores=scores)
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(
            f"{out.uri}/{OPINIONS_KEY}: is damaged; delete it and score the study again"
        ) from error


def fitting_opinions(out: Storage, files: Collection[ScoreFile]) -> Opinions | None:
    """The stored scores, without those of generators that were written anew since."""
    opinions = read_opinions(out)
    if opinions is None:
        return None
    scored = {file.name: file.generator_sha256 for file in files}
    scores = dict(opinions.scores)
    for method, name in ((SRRESNET, SRRESNET), (SRGAN, generator_name(opinions.epoch))):
        if method in scores and scored.get(name) != opinions.generators.get(name):
            del scores[method]
            _log.warning(
                "%s/%s: its score of %s is left out: the generator is another one now",
                out.uri,
                OPINIONS_KEY,
                name,
            )
    return opinions._replace(scores=scores)


def with_opinions(means: Means, opinions: Opinions | None) -> Means:
    """The means with a column of opinion scores."""
    if opinions is None:
        return means
    column = (SIMULATED_MOS if opinions.simulated else MOS).key
    added = dict(means)
    for method, (mean, _, _) in opinions.scores.items():
        key = (method, opinions.epoch if method == SRGAN else None)
        if key in added:
            added[key] = added[key] | {column: mean}
    return added


def opinions_note(opinions: Opinions, run: TableRun) -> str:
    """A line below the tables of a run: whose scores they are, and how sure."""
    intervals = ", ".join(
        f"{run.title(method)} {low:.2f} to {high:.2f}"
        for method, (_, low, high) in opinions.scores.items()
        if low is not None and high is not None
    )
    title = (SIMULATED_MOS if opinions.simulated else MOS).title
    raters = f"{opinions.raters} {'simulated ' if opinions.simulated else ''}raters"
    return (
        f"{title}: mean of the answers 1 (bad) to 5 (excellent) of {raters}, study "
        f"{opinions.study}; 95 % intervals: {intervals or 'none, with too few raters'}"
    )
