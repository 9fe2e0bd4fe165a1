"""Which method is preferred how much: Bradley and Terry's (1952) model of pairs. Pure."""

from itertools import combinations

import numpy as np

from srgan.study.bootstrap import draw, holm
from srgan.study.opinion_scores import SEED, Comparison, MethodScore, Scores, agreement, compared
from srgan.study.panel import Floats, Panel

_RESAMPLES = 999
_HALF = 0.5


def strengths(wins: Floats) -> Floats:
    """The maximum-likelihood strengths, in natural log odds.

    Args:
        wins: float64 [M, M], how often the first was preferred to the second. Every method has won
            against some other, and lost.

    Returns:
        float64 [M]; their mean is 0.
    """
    import choix

    found = choix.ilsr_pairwise_dense(wins)
    centred: Floats = found - np.mean(found)
    return centred


def preference_scores(panel: Panel) -> Scores:
    """Scores a panel of mode pairs.

    Half a preference is added to either side of every pair, as is usual for log odds: otherwise a
    method that always wins has no finite strength. The intervals are percentiles of a bootstrap
    over raters and pictures.
    """
    raters, pictures, _, _ = panel.values.shape
    rng = np.random.default_rng(SEED)
    by_rater, by_picture = draw(rng, raters, _RESAMPLES), draw(rng, pictures, _RESAMPLES)
    wins = panel.values.sum(axis=(0, 1))
    is_compared = _HALF * ((wins + wins.T) > 0)
    found = strengths(wins + is_compared)
    drawn_wins = np.einsum("br,bp,rpij->bij", by_rater, by_picture, panel.values, optimize=True)
    drawn = np.stack([strengths(one + is_compared) for one in drawn_wins])
    has_error = min(raters, pictures) > 1
    lows, highs = _percentiles(drawn, has_error)
    answers = (wins + wins.T).sum(axis=1)
    methods = [
        MethodScore(method, float(one), float(low), float(high), int(count))
        for method, one, low, high, count in zip(
            panel.methods, found, lows, highs, answers, strict=True
        )
    ]
    pairs = compared(panel.methods)
    first, second = ([panel.methods.index(pair[side]) for pair in pairs] for side in (0, 1))
    differences = drawn[:, first] - drawn[:, second]
    ends = _percentiles(differences, has_error)
    tail = np.minimum(np.sum(differences <= 0, axis=0), np.sum(differences >= 0, axis=0))
    p_values = (
        np.minimum(1.0, 2 * (1 + tail) / (1 + _RESAMPLES)) if has_error else np.ones(len(pairs))
    )
    columns = (found[first] - found[second], *ends, holm(p_values))
    comparisons = [
        Comparison(*pair, *map(float, row)) for pair, *row in zip(pairs, *columns, strict=True)
    ]
    return Scores(methods, comparisons, agreement(_choices(panel), "nominal"), None)


def _percentiles(drawn: Floats, has_error: bool) -> Floats:
    ends: Floats = np.quantile(drawn, [0.025, 0.975], axis=0)
    return ends if has_error else np.full_like(ends, np.nan)


def _choices(panel: Panel) -> Floats:
    """float64 [R, pictures x pairs]: 1 if the first of the two was preferred, 0 if the second."""
    values = panel.values
    columns = []
    for first, second in combinations(range(len(panel.methods)), 2):
        for_first, for_second = values[:, :, first, second], values[:, :, second, first]
        total = for_first + for_second
        columns.append(np.where(total > 0, for_first / np.maximum(total, 1), np.nan))
    return np.concatenate(columns, axis=1)
