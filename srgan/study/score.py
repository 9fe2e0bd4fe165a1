"""Scores a study: reads the ratings, writes the tables beside the evaluation's."""

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from data_pipeline.platform.errors import UserError
from data_pipeline.platform.storage import Storage, open_storage
from srgan.evaluation.evaluate import write_tables_again
from srgan.evaluation.opinions import Opinions, write_opinions
from srgan.evaluation.run_reader import open_run
from srgan.study.files import read_key, read_ratings
from srgan.study.opinion_scores import SEED, opinion_scores
from srgan.study.panel import Panel, make_panel
from srgan.study.power import power_lines
from srgan.study.preferences import preference_scores
from srgan.study.records import Key
from srgan.study.score_plot import scores_png
from srgan.study.score_tables import (
    Results,
    comparisons_csv,
    raters_csv,
    ratings_parquet,
    scores_csv,
    scores_markdown,
)
from srgan.study.screening import screen
from srgan.study.simulation import simulate as simulate_panel

_FEWEST_SIMULATED, _MOST_SIMULATED = 2, 1000

_log = logging.getLogger(__name__)


class ScoreSummary(NamedTuple):
    """What the score tells its caller.

    Attributes:
        uri: Where the results are.
        table: The tables for people.
    """

    uri: str
    table: str


def score(study: Path, *, ratings: Sequence[Path], simulate: int | None) -> ScoreSummary:
    """Scores a study.

    The results go to `study-<name>/` in the evaluation's folder; simulated ones to
    `simulated-study-<name>/`. Mode acr: the evaluation's tables and report get the column MOS.
    Simulated scores have a column of that name only until there are real ones.

    Args:
        study: STUDY.
        ratings: Files that raters sent.
        simulate: Leaves the ratings alone and asks so many simulated raters instead.

    Raises:
        UserError: If there are no ratings, nobody is left after the screening, or the study or its
            evaluation is missing or damaged.
    """
    if simulate is not None and not _FEWEST_SIMULATED <= simulate <= _MOST_SIMULATED:
        raise UserError(
            f"--simulate {simulate}: pass {_FEWEST_SIMULATED} to {_MOST_SIMULATED} raters"
        )
    key = read_key(study)
    out = open_storage(key.evaluation)
    run_uri = key.evaluation.rpartition("/evaluation/")[0]
    is_gan = open_run(run_uri).config.trains_discriminator
    found = (
        read_ratings(study, ratings) if simulate is None else simulate_panel(key, simulate, SEED)
    )
    if not found:
        raise UserError(
            f"{study}: holds no ratings yet; collect some with jobs.study serve, or pass files of "
            "raters to --ratings"
        )
    raters = screen(key, found)
    kept = [one.rater for one in raters if not one.reasons]
    if not kept:
        whys = "; ".join(f"{one.rater}: {', '.join(one.reasons)}" for one in raters)
        raise UserError(f"{study}: no rater counts ({whys}); collect more ratings")
    panel = make_panel(key, found).of(kept)
    results = Results(
        name=study.name,
        key=key,
        ratings=found,
        raters=raters,
        scores=opinion_scores(panel) if key.mode == "acr" else preference_scores(panel),
        pictures=len(panel.pictures),
        simulated=simulate is not None,
        is_gan=is_gan,
        power=_power(key, panel, simulate),
    )
    folder = f"{'simulated-' if results.simulated else ''}study-{study.name}/"
    table = scores_markdown(results)
    out.write(f"{folder}scores.csv", scores_csv(results).encode())
    out.write(f"{folder}comparisons.csv", comparisons_csv(results).encode())
    out.write(f"{folder}raters.csv", raters_csv(results).encode())
    out.write(f"{folder}ratings.parquet", ratings_parquet(results))
    out.write(f"{folder}scores.png", scores_png(results))
    out.write(f"{folder}scores.md", table.encode())
    if key.mode == "acr":
        _fill_column(out, run_uri, results, len(kept))
    return ScoreSummary(f"{out.uri}/{folder}".rstrip("/"), table)


def _power(key: Key, panel: Panel, simulate: int | None) -> list[str]:
    if simulate is None or key.mode == "pairs":
        return []
    return power_lines(panel.methods, simulate, len(panel.pictures), SEED)


def _fill_column(out: Storage, run_uri: str, results: Results, raters: int) -> None:
    """Stores the scores for the evaluation's tables, and writes these again."""
    opinions = Opinions(
        study=results.name,
        simulated=results.simulated,
        raters=raters,
        epoch=results.key.epoch,
        generators=results.key.generators,
        scores={
            one.method: (one.score, _finite(one.low), _finite(one.high))
            for one in results.scores.methods
        },
    )
    if not write_opinions(out, opinions):
        _log.info("%s: its tables have the scores of real raters, which stay", out.uri)
        return
    try:
        write_tables_again(run_uri, out)
    except UserError as error:
        _log.warning(
            "%s; the scores are stored: run jobs.evaluate again, and its tables have them", error
        )


def _finite(value: float) -> float | None:
    return None if math.isnan(value) else value
