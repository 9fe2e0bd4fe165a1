"""Which raters are left out, and why. Pure."""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from srgan.study.panel import Floats, make_panel, trial_of
from srgan.study.records import Key, Rating, Trial

_LEAST_ANSWERED = 0.5
_MOST_MISSED = 1 / 3
_FEWEST_REPEATS = 3
_MOST_APART = 1.5  # points; who presses anything is 1.6 apart on average
_LEAST_EQUAL = 0.25
_OFTEN, _EVENLY = 0.05, 0.3


class RaterFacts(NamedTuple):
    """What is known of a rater.

    Attributes:
        rater: The pseudonym.
        answered: How many of the scored trials.
        scored: How many there are.
        missed: How many traps and gold questions have another answer than expected.
        checks: How many of them were answered.
        repeats: acr: mean difference between an answer and the one before to the same picture, in
            points. pairs: share of the repeated pairs with the same choice. None without repeats.
        reasons: Why the rater is left out; empty for those who count.
    """

    rater: str
    answered: int
    scored: int
    missed: int
    checks: int
    repeats: float | None
    reasons: tuple[str, ...]


def screen(key: Key, ratings: Sequence[Rating]) -> list[RaterFacts]:
    """Judges every rater, in the order of their pseudonyms.

    First by their own answers: fewer than half of the scored trials, more than a third of the traps
    and gold questions missed, or repeats too far apart. Mode acr: those who pass are then compared
    by ITU-R BT.500-14.
    """
    by_rater = defaultdict(list)
    for rating in ratings:
        by_rater[rating.rater].append(rating)
    facts = [_own_facts(key, by_rater[rater]) for rater in sorted(by_rater)]
    kept = [one.rater for one in facts if not one.reasons]
    outliers: set[str] = set()
    if key.mode == "acr" and kept:
        panel = make_panel(key, ratings).of(kept)
        is_outlier = bt500_outliers(panel.values.reshape(len(kept), -1))
        outliers = {rater for rater, out in zip(kept, is_outlier, strict=True) if out}
    reason = ("far from the others, above and below alike (ITU-R BT.500)",)
    return [one._replace(reasons=reason) if one.rater in outliers else one for one in facts]


def _own_facts(key: Key, ratings: Sequence[Rating]) -> RaterFacts:
    plan = key.plans[ratings[0].plan]
    answers = {trial_of(key, rating): rating.answer for rating in ratings}
    scored = sum(trial.role == "scored" for trial in plan)
    answered = sum(trial.role == "scored" for trial in answers)
    checks = [trial for trial in answers if trial.role in ("gold", "trap")]
    missed = sum(answers[trial] not in trial.expected for trial in checks)
    distances = _repeat_distances(answers)
    reasons = []
    if answered < _LEAST_ANSWERED * scored:
        reasons.append(f"answered {answered} of {scored} trials")
    if missed > _MOST_MISSED * len(checks):
        reasons.append(f"missed {missed} of {len(checks)} traps and gold questions")
    repeats = float(np.mean(distances)) if distances else None
    if key.mode == "pairs" and repeats is not None:
        repeats = 1 - repeats
    if repeats is not None and len(distances) >= _FEWEST_REPEATS:
        if key.mode == "acr" and repeats > _MOST_APART:
            reasons.append(f"repeats are {repeats:.1f} points apart")
        if key.mode == "pairs" and repeats < _LEAST_EQUAL:
            reasons.append(f"chose again the same in {repeats:.0%} of {len(distances)} repeats")
    return RaterFacts(
        ratings[0].rater, answered, scored, missed, len(checks), repeats, tuple(reasons)
    )


def _repeat_distances(answers: dict[Trial, int]) -> list[int]:
    """How far each repeat is from the first answer to the same pictures; sides may be swapped."""
    first = {trial.stimuli: answer for trial, answer in answers.items() if trial.role == "scored"}
    found = []
    for trial, answer in answers.items():
        if trial.role != "repeat":
            continue
        if trial.stimuli in first:
            found.append(abs(answer - first[trial.stimuli]))
        elif trial.stimuli[::-1] in first:
            found.append(abs(1 - answer - first[trial.stimuli[::-1]]))
    return found


def bt500_outliers(answers: Floats) -> npt.NDArray[np.bool_]:
    """Which raters ITU-R BT.500-14, Annex 1, section 2.3.1 rejects.

    A stimulus's answers count as normal if their kurtosis is between 2 and 4. An answer is far
    above or below if it is 2 standard deviations from the mean; sqrt(20) where the answers are not
    normal. A rater is rejected who is far in more than 5 % of the answers, and not mostly on one
    side: that would be a bias, not carelessness.

    Args:
        answers: float64 [I, J], raters by stimuli, NaN where there is no answer.

    Returns:
        bool [I].
    """
    is_there = ~np.isnan(answers)
    counts = np.sum(is_there, axis=0)
    deviations = answers - np.sum(np.nan_to_num(answers), axis=0) / np.maximum(counts, 1)
    second, fourth = (
        np.sum(np.nan_to_num(deviations) ** power, axis=0) / np.maximum(counts, 1)
        for power in (2, 4)
    )
    # Where all answers are equal there is no spread: nobody is far.
    is_spread = second > 1e-12
    kurtosis = fourth / np.where(is_spread, second, 1.0) ** 2
    is_normal = (kurtosis >= 2) & (kurtosis <= 4)
    spread = np.sqrt(second * counts / np.maximum(counts - 1, 1))
    limit = np.where(is_normal, 2.0, np.sqrt(20.0)) * spread
    above, below = (
        np.sum(is_spread & is_there & (sign * deviations >= limit), axis=1) for sign in (1, -1)
    )
    far = above + below
    is_often = far > _OFTEN * np.sum(is_there, axis=1)
    is_rejected: npt.NDArray[np.bool_] = is_often & (np.abs(above - below) < _EVENLY * far)
    return is_rejected
