"""How much a study of so many raters and crops can tell. Pure, and determined by the seed."""

from typing import NamedTuple

import numpy as np

from srgan.evaluation.table import SRGAN, SRRESNET, TITLES
from srgan.study.bootstrap import holm, two_way_bootstrap
from srgan.study.opinion_scores import compared
from srgan.study.panel import Floats
from srgan.study.simulation import TRUE_SCORES, draw_world, rate_all

WANTED = 0.2
"""Half of the interval, in points."""

_STUDIES, _RESAMPLES = 200, 399
_MOST_RATERS = 500
_LARGE = (300, 2000)  # raters and pictures that show how large each source of chance is


class Components(NamedTuple):
    """Variances of an answer, float64 [M] each: between raters, between pictures, and the rest."""

    rater: Floats
    picture: Floats
    rest: Floats


def components(answers: Floats) -> Components:
    """Splits the variance of answers [R, P, M] without gaps by the usual analysis of variance."""
    raters, pictures, _ = answers.shape
    mean = answers.mean(axis=(0, 1))
    by_rater, by_picture = answers.mean(axis=1) - mean, answers.mean(axis=0) - mean
    rest = answers - mean - by_rater[:, None] - by_picture
    rest_variance = np.sum(rest**2, axis=(0, 1)) / ((raters - 1) * (pictures - 1))
    return Components(
        np.maximum(np.sum(by_rater**2, axis=0) / (raters - 1) - rest_variance / pictures, 0),
        np.maximum(np.sum(by_picture**2, axis=0) / (pictures - 1) - rest_variance / raters, 0),
        rest_variance,
    )


def half_width(found: Components, raters: int, pictures: int) -> Floats:
    """Half of the 95 % interval [M]: Student's t, degrees of freedom by Satterthwaite (1946)."""
    from scipy.stats import t

    rest = found.rest / (raters * pictures)
    of_raters, of_pictures = found.rater / raters + rest, found.picture / pictures + rest
    variance = of_raters + of_pictures - rest
    freedom = variance**2 / (
        of_raters**2 / (raters - 1)
        + of_pictures**2 / (pictures - 1)
        + rest**2 / ((raters - 1) * (pictures - 1))
    )
    width: Floats = t.ppf(0.975, freedom) * np.sqrt(variance)
    return width


def fewest_raters(found: Components, pictures: int, wanted: float) -> int | None:
    """The fewest raters with which no method's interval is wider; None if 500 do not suffice."""
    for raters in range(2, _MOST_RATERS + 1):
        if np.max(half_width(found, raters, pictures)) <= wanted:
            return raters
    return None


def power_lines(methods: list[str], raters: int, pictures: int, seed: int) -> list[str]:
    """What to expect of a study of mode acr, for its owner; at least two raters."""
    truth = np.array([TRUE_SCORES[method] for method in methods])
    rng = np.random.default_rng(seed)
    pairs = compared(methods)
    first, second = ([methods.index(pair[side]) for pair in pairs] for side in (0, 1))
    widths, is_found = [], []
    for number in range(_STUDIES):
        answers = rate_all(rng, draw_world(rng, raters, pictures, truth))
        low, high = two_way_bootstrap(answers, resamples=_RESAMPLES, seed=number).intervals()
        widths.append((np.minimum(high, 5) - np.maximum(low, 1)) / 2)
        differences = answers[:, :, first] - answers[:, :, second]
        found = two_way_bootstrap(differences, resamples=_RESAMPLES, seed=number)
        is_found.append(holm(found.p_values()) < 0.05)
    shown = ", ".join(
        f"{TITLES[method]} ±{width:.2f}"
        for method, width in zip(methods, np.mean(widths, axis=0), strict=True)
    )
    lines = [
        f"In {_STUDIES} simulated studies of {raters} raters and {pictures} crops the 95 % "
        f"intervals are, on average: {shown}."
    ]
    if (SRGAN, SRRESNET) in pairs:
        gap = TRUE_SCORES[SRGAN] - TRUE_SCORES[SRRESNET]
        share = np.mean(is_found, axis=0)[pairs.index((SRGAN, SRRESNET))]
        lines.append(
            f"{share:.0%} of them find a difference of {gap:.2f} points between SRGAN and "
            "SRResNet (p < 0.05, Holm)."
        )
    large = components(rate_all(rng, draw_world(rng, *_LARGE, truth)))
    for crops in (pictures, 2 * pictures, 4 * pictures):
        fewest = fewest_raters(large, crops, WANTED)
        lines.append(
            f"±{WANTED} for every method takes {fewest} raters with {crops} crops."
            if fewest
            else f"With {crops} crops no number of raters up to {_MOST_RATERS} gives ±{WANTED} for "
            "every method: the crops differ too much."
        )
    return lines
