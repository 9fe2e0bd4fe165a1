"""Published data and worked examples give the published figures."""

from pathlib import Path

import numpy as np
import pytest

from srgan.study.opinion_scores import agreement, compared, opinion_scores
from srgan.study.panel import Panel
from srgan.study.preferences import preference_scores, strengths
from srgan.study.rater_model import fit_rater_model

SUREAL = Path(__file__).parents[2] / "data/sureal_p910.csv"
PICTURES = [(f"image{number}", (0, 0, 8, 8)) for number in range(6)]


def test_netflix_demo_of_p910():
    """The figures that its README prints; rows are stimuli, columns raters, one vote is missing."""
    found = fit_rater_model(np.loadtxt(SUREAL, delimiter=","))
    assert found.quality[0] == pytest.approx(4.926232195563247, abs=1e-12)
    assert found.quality[9] == pytest.approx(1.3750512302890123, abs=1e-9)
    assert found.quality[-1] == pytest.approx(4.5726059728251345, abs=1e-9)
    assert found.bias[0] == pytest.approx(-0.189852445792812, abs=1e-9)
    assert found.bias[-1] == pytest.approx(0.08862856686541574, abs=1e-9)
    assert found.inconsistency[0] == pytest.approx(1.8339364220090855, abs=1e-9)
    assert found.inconsistency[-1] == pytest.approx(0.4806602532869842, abs=1e-9)


def test_the_rater_model_finds_bias_and_inconsistency():
    rng = np.random.default_rng(0)
    quality, bias = rng.uniform(1, 5, 400), np.array([-0.5, 0.0, 0.2, 0.3])
    noise = np.array([0.2, 0.4, 0.8, 1.6])
    answers = quality[:, None] + bias + noise * rng.standard_normal((400, 4))
    answers[rng.random(answers.shape) < 0.1] = np.nan
    found = fit_rater_model(answers)
    assert np.allclose(found.bias, bias, atol=0.15)
    assert np.all(np.diff(found.inconsistency) > 0)
    # A careless rater counts less than in a plain mean.
    plain = np.nanmean(answers - bias, axis=1)
    assert np.std(found.quality - quality) < 0.7 * np.std(plain - quality)


def test_krippendorff_2011():
    """Krippendorff (2011), "Computing Krippendorff's Alpha-Reliability", example C."""
    gap = np.nan
    answers = np.array(
        [
            [1, 2, 3, 3, 2, 1, 4, 1, 2, gap, gap, gap],
            [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, gap, 3],
            [gap, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, gap],
            [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, gap],
        ]
    )
    assert agreement(answers, "nominal") == pytest.approx(0.743, abs=5e-4)
    assert agreement(answers, "ordinal") == pytest.approx(0.815, abs=5e-4)
    assert np.isnan(agreement(np.full((3, 4), 2.0), "ordinal"))
    assert np.isnan(agreement(np.array([[1.0, gap], [gap, 2.0]]), "ordinal"))


def test_bradley_terry_of_agresti():
    """Agresti, "Categorical Data Analysis" (2nd ed., table 10.10): baseball, 1987.

    The estimates are those of the model without home advantage, Baltimore 0.
    """
    wins = np.array(
        [
            [0, 7, 9, 7, 7, 9, 11],  # Milwaukee
            [6, 0, 7, 5, 11, 9, 9],  # Detroit
            [4, 6, 0, 7, 7, 8, 12],  # Toronto
            [6, 8, 6, 0, 6, 7, 10],  # New York
            [6, 2, 6, 7, 0, 7, 12],  # Boston
            [4, 4, 5, 6, 6, 0, 6],  # Cleveland
            [2, 4, 1, 3, 1, 7, 0],  # Baltimore
        ],
        dtype=float,
    )
    found = strengths(wins)
    assert np.allclose(found - found[-1], [1.581, 1.436, 1.294, 1.248, 1.108, 0.684, 0], atol=1e-3)
    assert abs(found.sum()) < 1e-9


def test_opinion_scores_of_a_small_panel():
    values = np.full((4, 6, 3), np.nan)
    values[:, :, 0], values[:, :, 1], values[:, :, 2] = 1, 3, 5
    values[:2, :, 1] = 4
    values[3, 0, 2] = np.nan
    found = opinion_scores(Panel(list("abcd"), PICTURES, ["nearest", "bicubic", "hr"], values))
    assert [one.method for one in found.methods] == ["nearest", "bicubic", "hr"]
    assert [one.score for one in found.methods] == [1, 3.5, 5]
    assert [one.answers for one in found.methods] == [24, 24, 23]
    assert found.methods[1].low < 3.5 < found.methods[1].high
    assert all(1 <= one.low <= one.high <= 5 for one in found.methods)
    assert [(one.method, one.reference) for one in found.comparisons] == [
        ("nearest", "bicubic"),
        ("hr", "bicubic"),
    ]
    assert [one.difference for one in found.comparisons] == [
        pytest.approx(-2.5),
        pytest.approx(float(np.nanmean(values[:, :, 2] - values[:, :, 1]))),
    ]
    assert 0.5 < found.agreement < 1


def test_every_method_meets_both_references_once():
    pairs = compared(["nearest", "bicubic", "srresnet", "srgan", "hr"])
    assert len(pairs) == len({frozenset(pair) for pair in pairs}) == 7
    assert ("srgan", "srresnet") in pairs
    assert ("srresnet", "bicubic") in pairs
    assert compared(["nearest", "hr"]) == []


def test_preferences_of_a_panel():
    methods = ["nearest", "bicubic", "hr"]
    values = np.zeros((8, 6, 3, 3))
    values[:, :, 2, 0] = 1  # HR always beats nearest: its strength is finite all the same
    values[:, :, 2, 1] = 1
    values[2:, :, 1, 0] = 1
    values[:2, :, 0, 1] = 1
    panel = Panel([f"r{number}" for number in range(8)], PICTURES, methods, values)
    found = preference_scores(panel)
    nearest, bicubic, hr = (one.score for one in found.methods)
    assert nearest < bicubic < hr < 10
    assert bicubic - nearest == pytest.approx(np.log(36.5 / 12.5), abs=0.05)
    assert [one.answers for one in found.methods] == [96, 96, 96]
    assert [(one.method, one.p < 0.05) for one in found.comparisons][-1] == ("hr", True)
    assert preference_scores(panel) == found
    alone = preference_scores(panel.of(["r3"]))
    assert np.isnan(alone.methods[0].low)
    assert {one.p for one in alone.comparisons} == {1}
