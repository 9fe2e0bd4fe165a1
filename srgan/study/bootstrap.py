"""Means over raters and pictures, and how sure they are: a bootstrap over both. Pure.

Other raters and other pictures would have given another mean. So both are drawn again, with
replacement (Owen 2007, "The pigeonhole bootstrap"). That bootstrap alone counts the error of single
answers three times. So every drawn mean is divided by its own standard error (bootstrap-t; Efron
and Tibshirani 1993, chapter 12.5), which makes the interval right for few pictures too.
"""

from typing import NamedTuple

import numpy as np

from srgan.study.panel import Floats

_LEAST_VARIANCE = 1 / 9
"""Of a drawn sample, in variances of the real one: a sample of equal answers has no spread."""


class Bootstrap(NamedTuple):
    """Means and their distribution.

    Attributes:
        mean: float64 [K]; NaN where there is no value.
        error: float64 [K]: their standard errors; NaN with fewer than two raters or pictures.
        t: float64 [B, K]: (drawn mean - mean) / its standard error.
    """

    mean: Floats
    error: Floats
    t: Floats

    def intervals(self) -> tuple[Floats, Floats]:
        """The ends of the 95 % intervals, float64 [K] each; NaN where there is no error."""
        low, high = np.quantile(self.t, [0.025, 0.975], axis=0)
        return self.mean - high * self.error, self.mean - low * self.error

    def p_values(self) -> Floats:
        """Two-sided, float64 [K], that a mean is zero; 1 where there is no error.

        Below 0.05 where the 95 % interval leaves zero out.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            observed = self.mean / self.error
        share = 1.0 + np.minimum(
            np.sum(self.t >= observed, axis=0), np.sum(self.t <= observed, axis=0)
        )
        found = np.minimum(1.0, 2 * share / (1 + len(self.t)))
        return np.where(np.isnan(observed), 1.0, found)


def draw(rng: np.random.Generator, count: int, resamples: int) -> Floats:
    """How often each of `count` things is drawn: float64 [resamples, count]."""
    return rng.multinomial(count, np.full(count, 1 / count), resamples).astype(np.float64)


def two_way_bootstrap(values: Floats, *, resamples: int, seed: int) -> Bootstrap:
    """Bootstraps the means over raters and pictures; the same draws serve every column.

    Args:
        values: float64 [R, P, K], NaN where there is no answer.
        resamples: B.
        seed: The same seed gives the same draws.
    """
    raters, pictures, columns = values.shape
    rng = np.random.default_rng(seed)
    by_rater, by_picture = draw(rng, raters, resamples), draw(rng, pictures, resamples)
    mean, error = np.full(columns, np.nan), np.full(columns, np.nan)
    t = np.zeros((resamples, columns))
    for column in range(columns):
        is_there = (~np.isnan(values[:, :, column])).astype(np.float64)
        if not is_there.any():
            continue
        # Centred, so that sums of squares lose no digits.
        mean[column] = np.nanmean(values[:, :, column])
        centred = np.nan_to_num(values[:, :, column] - mean[column])
        if min(raters, pictures) < 2:
            continue
        once = np.ones((1, raters)), np.ones((1, pictures))
        variance = _moments(centred, is_there, *once)[1][0]
        error[column] = np.sqrt(variance)
        if variance > 0:
            drawn, variances = _moments(centred, is_there, by_rater, by_picture)
            t[:, column] = drawn / np.sqrt(np.maximum(variances, _LEAST_VARIANCE * variance))
    return Bootstrap(mean, error, t)


def _moments(
    values: Floats, is_there: Floats, by_rater: Floats, by_picture: Floats
) -> tuple[Floats, Floats]:
    """Weighted means [B] and their variances [B].

    The variance is that of two-way clusters: by raters, plus by pictures, minus by answers, with
    the usual n / (n - 1) (Cameron, Gelbach and Miller 2011, equation 2.12). The difference may be
    too small by chance; it is never taken to be less than either of the first two.
    """
    raters, pictures = values.shape
    rows, row_counts = by_picture @ values.T, by_picture @ is_there.T
    columns, column_counts = by_rater @ values, by_rater @ is_there
    # A draw may hold no answer at all: its sums are 0, and so is its mean.
    count = np.maximum(np.sum(by_rater * row_counts, axis=1), 1.0)
    mean = np.sum(by_rater * rows, axis=1) / count
    of_raters = np.sum(by_rater * (rows - mean[:, None] * row_counts) ** 2, axis=1)
    of_pictures = np.sum(by_picture * (columns - mean[:, None] * column_counts) ** 2, axis=1)
    of_answers = np.sum(by_picture * (by_rater @ values**2), axis=1) - count * mean**2
    of_raters *= raters / (raters - 1)
    of_pictures *= pictures / (pictures - 1)
    total = np.maximum(of_raters + of_pictures - of_answers, np.maximum(of_raters, of_pictures))
    return mean, total / count**2


def holm(p_values: Floats) -> Floats:
    """Holm's (1979) correction for many comparisons: float64 [K], in the order of the argument."""
    order = np.argsort(p_values)
    factors = np.arange(len(p_values), 0, -1)
    corrected = np.empty_like(p_values)
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(factors * p_values[order]))
    return corrected
