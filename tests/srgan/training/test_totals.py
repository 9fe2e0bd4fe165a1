import json

import numpy as np
import pytest

from srgan.training.totals import EpochTotals


def test_means_over_an_interrupted_epoch():
    """Sums go through JSON in the middle; the means are those of all steps."""
    names = ["mse", "adversarial"]
    rows = np.array([[1.0, 10.0], [2.0, 20.0], [6.0, 60.0]])
    totals = EpochTotals()
    totals.add_steps(names, rows[:2])
    totals.add(seconds=2.5)
    totals = EpochTotals(json.loads(json.dumps(totals.sums)))
    totals.add_steps(names, rows[2:])
    totals.add(seconds=0.5)
    assert totals.means(names) == {"mse": 3.0, "adversarial": 30.0}
    assert totals.sums["seconds"] == pytest.approx(3)
    assert totals.sums["steps"] == 3


def test_an_epoch_without_a_step_has_no_means():
    assert EpochTotals().means(["mse"]) == {}
