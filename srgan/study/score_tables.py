"""A study's results as tables: CSV and Parquet for programs, Markdown for people. Pure."""

import csv
import io
import math
from collections.abc import Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from srgan.evaluation.table import ABSENT, SRGAN, method_title
from srgan.study.opinion_scores import Scores
from srgan.study.panel import trial_of
from srgan.study.records import Key, Rating
from srgan.study.screening import RaterFacts

_SIMULATED = "simulated"


class Results(NamedTuple):
    """What is written of a study.

    Attributes:
        name: The study's name.
        key: The study.
        ratings: All ratings, those of raters who are left out too.
        raters: Every rater.
        scores: Of those who count.
        pictures: How many crops were scored.
        simulated: Whether the raters do not exist.
        is_gan: As in TableRun: how people read the method `srgan`.
        power: Lines on what to expect of such a study; empty for real ratings.
    """

    name: str
    key: Key
    ratings: Sequence[Rating]
    raters: Sequence[RaterFacts]
    scores: Scores
    pictures: int
    simulated: bool
    is_gan: bool
    power: Sequence[str]

    @property
    def title(self) -> str:
        """What the scores are."""
        title = "MOS" if self.key.mode == "acr" else "Bradley-Terry strength"
        return f"{title} ({_SIMULATED})" if self.simulated else title

    def method(self, method: str) -> str:
        """A method's name for people."""
        title = method_title(method, is_gan=self.is_gan)
        return f"{title}, epoch {self.key.epoch}" if method == SRGAN else title


def scores_csv(results: Results) -> str:
    """`method,epoch,score,low,high,answers,unbiased,simulated`; what is absent is empty."""
    rows = [
        [
            one.method,
            str(results.key.epoch) if one.method == SRGAN else "",
            *map(_number, (one.score, one.low, one.high)),
            str(one.answers),
            _number(one.unbiased),
            _flag(results.simulated),
        ]
        for one in results.scores.methods
    ]
    return _csv("method,epoch,score,low,high,answers,unbiased,simulated", rows)


def comparisons_csv(results: Results) -> str:
    """`method,reference,difference,low,high,p,simulated`; p is corrected by Holm."""
    rows = [
        [
            one.method,
            one.reference,
            *map(_number, (one.difference, one.low, one.high, one.p)),
            _flag(results.simulated),
        ]
        for one in results.scores.comparisons
    ]
    return _csv("method,reference,difference,low,high,p,simulated", rows)


def raters_csv(results: Results) -> str:
    """A row per rater: what they answered, bias and inconsistency, and why they are left out."""
    model = results.scores.model
    kept = [one.rater for one in results.raters if not one.reasons]
    modelled = (
        {
            rater: (_number(float(bias)), _number(float(noise)))
            for rater, bias, noise in zip(kept, model.bias, model.inconsistency, strict=True)
        }
        if model
        else {}
    )
    rows = [
        [
            one.rater,
            *map(str, (one.answered, one.scored, one.missed, one.checks)),
            _number(one.repeats),
            *modelled.get(one.rater, ("", "")),
            "; ".join(one.reasons),
            _flag(results.simulated),
        ]
        for one in results.raters
    ]
    header = "rater,answered,scored,missed,checks,repeats,bias,inconsistency,left_out,simulated"
    return _csv(header, rows)


def ratings_parquet(results: Results) -> bytes:
    """Every answer with what was shown; pairs have two names, methods and so on."""
    left_out = {one.rater for one in results.raters if one.reasons}
    rows = []
    for rating in results.ratings:
        trial = trial_of(results.key, rating)
        shown = [results.key.stimuli[name] for name in trial.stimuli]
        rows.append(
            {
                **rating._asdict(),
                "session": trial.session,
                "role": trial.role,
                "stimuli": list(trial.stimuli),
                "image": shown[0].image,
                "crop": list(shown[0].crop),
                "methods": [one.method for one in shown],
                "left_out": rating.rater in left_out,
            }
        )
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), buffer, write_page_checksum=True)
    return buffer.getvalue()


def scores_markdown(results: Results) -> str:
    """The tables for people, and who was left out and why."""
    scores, is_acr = results.scores, results.key.mode == "acr"
    kept = sum(not one.reasons for one in results.raters)
    mark = f" {_SIMULATED}" if results.simulated else ""
    lines = [
        f"Study {results.name}: {kept} of {len(results.raters)}{mark} raters count, "
        f"{results.pictures} crops."
    ]
    if results.simulated:
        lines += ["", "SIMULATED: no person has rated these pictures."]
    header = ["method", results.title, "95 % interval", "answers"]
    rows = [
        [
            results.method(one.method),
            _text(one.score),
            _interval(one.low, one.high),
            str(one.answers),
            *([_text(one.unbiased)] if is_acr else []),
        ]
        for one in scores.methods
    ]
    lines += ["", *_markdown([*header, *(["P.910 Annex E"] if is_acr else [])], rows), ""]
    header = ["method", "against", f"difference{mark and f' ({_SIMULATED})'}", "95 % interval"]
    rows = [
        [
            results.method(one.method),
            results.method(one.reference),
            f"{one.difference:+.2f}",
            _interval(one.low, one.high),
            "< 0.001" if one.p < 0.001 else f"{one.p:.3f}",
        ]
        for one in scores.comparisons
    ]
    if rows:
        lines += [*_markdown([*header, "p (Holm)"], rows), ""]
    alpha = ABSENT if math.isnan(scores.agreement) else f"{scores.agreement:.2f}"
    level = "ordinal" if is_acr else "nominal"
    lines.append(f"Agreement{mark and f' ({_SIMULATED})'}: Krippendorff's alpha ({level}) {alpha}.")
    if scores.model:
        bias, noise = scores.model.bias, scores.model.inconsistency
        lines.append(
            f"Raters by P.910 Annex E: bias {min(bias):+.2f} to {max(bias):+.2f}, inconsistency "
            f"{min(noise):.2f} to {max(noise):.2f} points."
        )
    left_out = [one for one in results.raters if one.reasons]
    lines += ["", "Left out:" if left_out else "Nobody is left out."]
    lines += [f"- {one.rater}: {', '.join(one.reasons)}" for one in left_out]
    lines += ["", *results.power] if results.power else []
    return "\n".join(lines) + "\n"


def _text(value: float | None) -> str:
    return ABSENT if value is None or math.isnan(value) else f"{value:.2f}"


def _interval(low: float, high: float) -> str:
    return ABSENT if math.isnan(low) else f"{low:.2f} to {high:.2f}"


def _number(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.4f}"


def _flag(value: bool) -> str:
    return str(value).lower()


def _markdown(header: list[str], rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows)]


def _csv(header: str, rows: list[list[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header.split(","), *rows])
    return text.getvalue()
