"""The intervals hold what they promise, and the correction is Holm's."""

import numpy as np
import pytest

from srgan.study.bootstrap import holm, two_way_bootstrap
from srgan.study.power import components, fewest_raters, half_width
from srgan.study.screening import bt500_outliers
from srgan.study.simulation import TRUE_SCORES, draw_world, rate_all

TRUTH = np.array(list(TRUE_SCORES.values()))


def hits(studies, raters, pictures, *, missing=0.0, seed=0):
    """How often the interval of each method holds the true mean: float64 [M], a share."""
    rng = np.random.default_rng(seed)
    found = np.zeros(len(TRUTH))
    for number in range(studies):
        answers = rate_all(rng, draw_world(rng, raters, pictures, TRUTH))
        answers[rng.random(answers.shape) < missing] = np.nan
        kept = ~bt500_outliers(answers.reshape(raters, -1))
        low, high = two_way_bootstrap(answers[kept], resamples=499, seed=number).intervals()
        found += (low <= TRUTH) & (high >= TRUTH)
    return found / studies


def test_the_interval_holds_the_true_mean():
    """400 intervals at 95 %, 200 with gaps: the bounds are nearly 3 standard deviations away."""
    assert 0.92 <= hits(80, 16, 8).mean() <= 0.98
    assert 0.90 <= hits(40, 16, 8, missing=0.2).mean() <= 0.99


@pytest.mark.slow
@pytest.mark.parametrize(("raters", "pictures"), [(24, 8), (12, 20)])
def test_a_thousand_studies_recover_their_true_means(raters, pictures):
    found = hits(1000, raters, pictures)
    assert 0.93 <= found.mean() <= 0.97
    assert np.all((found > 0.92) & (found < 0.985))  # each method, with room for chance


def test_equal_means_are_rarely_told_apart():
    rng = np.random.default_rng(0)
    p_values = []
    for number in range(100):
        answers = rate_all(rng, draw_world(rng, 12, 10, np.array([3.0, 3.0, 3.0])))
        differences = answers[:, :, 1:] - answers[:, :, :1]
        p_values += list(two_way_bootstrap(differences, resamples=399, seed=number).p_values())
    assert 0.01 <= np.mean(np.array(p_values) < 0.05) <= 0.10
    assert 0.35 <= np.mean(p_values) <= 0.65


def test_p_and_interval_agree():
    rng = np.random.default_rng(1)
    answers = rate_all(rng, draw_world(rng, 12, 10, np.linspace(2.6, 3.4, 30)))
    found = two_way_bootstrap(answers[:, :, 1:] - answers[:, :, :1], resamples=1999, seed=0)
    low, high = found.intervals()
    p_values = found.p_values()
    clear = abs(p_values - 0.05) > 0.003
    assert 3 < np.sum(p_values < 0.05) < 27
    assert np.array_equal(((low > 0) | (high < 0))[clear], (p_values < 0.05)[clear])


def test_the_same_seed_gives_the_same_interval():
    answers = np.random.default_rng(0).integers(1, 6, (5, 4, 2)).astype(float)
    one, same, other = (two_way_bootstrap(answers, resamples=99, seed=seed) for seed in (3, 3, 4))
    assert np.array_equal(one.t, same.t)
    assert not np.array_equal(one.t, other.t)
    assert np.allclose(one.mean, answers.mean((0, 1)))


def test_small_and_equal_panels():
    equal = np.full((6, 4, 1), 5.0)
    low, high = two_way_bootstrap(equal, resamples=99, seed=0).intervals()
    assert (low[0], high[0]) == (5, 5)
    nearly = equal.copy()
    nearly[2, 1] = 4  # many draws do not hold it: they have no spread
    low, high = two_way_bootstrap(nearly, resamples=999, seed=0).intervals()
    assert 4.7 < low[0] < nearly.mean() < high[0] < 5.2
    alone = two_way_bootstrap(equal[:1], resamples=99, seed=0)
    assert alone.mean[0] == 5
    assert np.isnan(alone.intervals()).all()
    assert alone.p_values()[0] == 1
    unrated = two_way_bootstrap(np.full((3, 3, 1), np.nan), resamples=9, seed=0)
    assert np.isnan(unrated.mean[0])


def test_holm():
    """By hand: 4 x 0.005, 3 x 0.01, 2 x 0.03, and 0.04, which is raised to the one before."""
    assert np.allclose(holm(np.array([0.01, 0.04, 0.03, 0.005])), [0.03, 0.06, 0.06, 0.02])
    assert np.allclose(holm(np.array([0.6, 0.9])), 1)


def test_components_of_known_variances():
    rng = np.random.default_rng(0)
    rater, picture = rng.normal(0, 0.5, (200, 1, 1)), rng.normal(0, 0.3, (1, 300, 1))
    found = components(rater + picture + rng.normal(0, 0.8, (200, 300, 1)))
    assert found.rater[0] == pytest.approx(rater.var(), rel=0.1)
    assert found.picture[0] == pytest.approx(picture.var(), rel=0.1)
    assert found.rest[0] == pytest.approx(0.64, rel=0.03)


def test_the_formula_for_planning_agrees_with_simulated_studies():
    rng = np.random.default_rng(0)
    large = components(rate_all(rng, draw_world(rng, 100, 400, TRUTH)))
    widths = []
    for number in range(40):
        answers = rate_all(rng, draw_world(rng, 16, 12, TRUTH))
        low, high = two_way_bootstrap(answers, resamples=299, seed=number).intervals()
        widths.append((high - low) / 2)
    assert np.allclose(np.mean(widths, axis=0), half_width(large, 16, 12), rtol=0.15)
    enough = fewest_raters(large, 32, 0.2)
    assert np.max(half_width(large, enough, 32)) <= 0.2 < np.max(half_width(large, enough - 1, 32))
    assert fewest_raters(large, 4, 0.2) is None
