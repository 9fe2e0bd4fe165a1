"""Mean opinion scores of a panel, differences between methods, and agreement. Pure."""

from typing import NamedTuple

import numpy as np

from srgan.evaluation.table import BICUBIC, SRRESNET
from srgan.study.bootstrap import holm, two_way_bootstrap
from srgan.study.panel import Floats, Panel
from srgan.study.rater_model import RaterModel, fit_rater_model

REFERENCES = (BICUBIC, SRRESNET)
"""What every other method is compared with."""

RESAMPLES = 4999
SEED = 20170711


class MethodScore(NamedTuple):
    """A method's score.

    Attributes:
        method: The method.
        score: acr: the mean opinion score. pairs: the Bradley-Terry strength, in natural log odds;
            the methods' mean is 0.
        low: The lower end of the 95 % interval; NaN with fewer than two raters.
        high: The upper end.
        answers: How many answers it rests on.
        unbiased: acr: the score by ITU-T P.910, Annex E; else None.
    """

    method: str
    score: float
    low: float
    high: float
    answers: int
    unbiased: float | None = None


class Comparison(NamedTuple):
    """A method beside a reference.

    Attributes:
        method: The method.
        reference: One of REFERENCES.
        difference: The method's score minus the reference's, on the same pictures and raters.
        low: The lower end of its 95 % interval, which is not corrected for many comparisons.
        high: The upper end.
        p: Two-sided, corrected by Holm over all comparisons of the study.
    """

    method: str
    reference: str
    difference: float
    low: float
    high: float
    p: float


class Scores(NamedTuple):
    """What a panel says.

    Attributes:
        methods: In the order of METHODS.
        comparisons: All that there are.
        agreement: Krippendorff's alpha; NaN where there is nothing to compare. acr: ordinal, as the
            five words have an order, and nothing says that they are equally far apart. pairs:
            nominal.
        model: acr: the raters' bias and inconsistency, in the panel's order; else None.
    """

    methods: list[MethodScore]
    comparisons: list[Comparison]
    agreement: float
    model: RaterModel | None


def opinion_scores(panel: Panel) -> Scores:
    """Scores a panel of mode acr."""
    raters, pictures, methods = panel.values.shape
    found = two_way_bootstrap(panel.values, resamples=RESAMPLES, seed=SEED)
    lows, highs = (np.clip(ends, 1, 5) for ends in found.intervals())
    answers = panel.values.reshape(raters, -1)
    is_rated = ~np.all(np.isnan(answers), axis=0)
    model = fit_rater_model(answers[:, is_rated].T)
    quality = np.full(pictures * methods, np.nan)
    quality[is_rated] = model.quality
    unbiased = np.nanmean(quality.reshape(pictures, methods), axis=0)
    counts = np.sum(~np.isnan(panel.values), axis=(0, 1))
    scores = [
        MethodScore(method, float(mean), float(low), float(high), int(count), float(one))
        for method, mean, low, high, count, one in zip(
            panel.methods, found.mean, lows, highs, counts, unbiased, strict=True
        )
    ]
    return Scores(scores, _comparisons(panel), agreement(answers, "ordinal"), model)


def compared(methods: list[str]) -> list[tuple[str, str]]:
    """The comparisons of a study: every method with each reference, each two once."""
    found: list[tuple[str, str]] = []
    for reference in REFERENCES:
        for method in methods:
            pair = (method, reference)
            if reference in methods and method != reference and pair[::-1] not in found:
                found.append(pair)
    return found


def _comparisons(panel: Panel) -> list[Comparison]:
    pairs = compared(panel.methods)
    first, second = ([panel.methods.index(pair[side]) for pair in pairs] for side in (0, 1))
    differences = panel.values[:, :, first] - panel.values[:, :, second]
    found = two_way_bootstrap(differences, resamples=RESAMPLES, seed=SEED)
    columns = (found.mean, *found.intervals(), holm(found.p_values()))
    return [Comparison(*pair, *map(float, row)) for pair, *row in zip(pairs, *columns, strict=True)]


def agreement(answers: Floats, level: str) -> float:
    """Krippendorff's alpha of answers [I, J], raters by units; NaN where it is not defined."""
    import krippendorff

    values = answers[:, np.sum(~np.isnan(answers), axis=0) > 1]
    domain = np.unique(values[~np.isnan(values)])
    if len(domain) < 2:
        return float("nan")
    return float(krippendorff.alpha(values, level_of_measurement=level))
