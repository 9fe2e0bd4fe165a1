import json

import numpy as np
import pytest

from srgan.training.totals import EpochTotals, compute_rates, percentages


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


def test_steps_that_were_left_out_count_in_the_rates_and_not_in_the_means():
    totals = EpochTotals()
    totals.add_steps(["mse"], np.ones((0, 1)), skipped=2)
    totals.add(seconds=4, call_seconds=3, data_wait_seconds=1)
    assert totals.means(["mse"]) == {}
    assert totals.speed(8) == {
        "seconds": 4,
        "seconds_per_step": 2,
        "patches_per_second": 4,
        "data_wait_seconds_per_step": 0.5,
        "outside_seconds_per_step": 0.5,
    }
    totals.add_steps(["mse"], np.full((2, 1), 3.0))
    assert totals.means(["mse"]) == {"mse": 3.0}
    assert totals.speed(8)["seconds_per_step"] == 1


def test_an_epochs_seconds_by_use():
    """Six steps in three calls: the first call takes 9 s, of which its two steps take 2 s."""
    totals = EpochTotals()
    totals.add_steps(["mse"], np.ones((6, 1)))
    totals.add(before_seconds=4, seconds=20, call_seconds=16, data_wait_seconds=3, save_seconds=1)
    totals.add(startup_seconds=5, first_call_seconds=10, first_wait_seconds=1, first_steps=2)
    uses = totals.seconds_by_use()
    assert uses == {"compute": 6, "data_wait": 3, "save": 1, "startup": 12, "other": 2}
    assert sum(uses.values()) == 24


def test_an_epoch_of_one_call_is_all_start_up():
    totals = EpochTotals({"steps": 2, "seconds": 9, "call_seconds": 9, "data_wait_seconds": 1})
    totals.add(first_call_seconds=9, first_wait_seconds=1, first_steps=2)
    uses = totals.seconds_by_use()
    assert uses == {"compute": 0, "data_wait": 1, "save": 0, "startup": 8, "other": 0}


def test_rates_are_those_of_all_devices():
    """30 TFLOP in 2 s on two GPUs of 100 TFLOP/s."""
    uses = {"compute": 1.5, "data_wait": 0.5}
    rates = compute_rates(30e12, uses, devices=2, peak=100e12)
    assert rates == {"tflops_per_second": 15, "mfu": 0.075}
    assert compute_rates(30e12, uses, devices=2, peak=None) == {"tflops_per_second": 15}
    one_call = {"compute": 0, "data_wait": 0.01}
    assert compute_rates(30e12, one_call, devices=1, peak=None) == {}


def test_an_epoch_that_an_older_version_began():
    old = {"steps": 4, "seconds": 9.0, "call_seconds": 8.0, "data_wait_seconds": 1.0}
    uses = EpochTotals(old).seconds_by_use()
    assert uses == {"compute": 7, "data_wait": 1, "save": 0, "startup": 0, "other": 1}


@pytest.mark.parametrize(
    ("amounts", "expected"),
    [
        ([1, 1, 1], [33.3, 33.3, 33.4]),
        ([0, 0], [0, 100]),
        ([9, 0, 1], [90, 0, 10]),
        ([1 / 7] * 7, [14.2] * 6 + [14.8]),
    ],
)
def test_percentages_sum_to_100(amounts, expected):
    assert percentages(amounts) == expected
    assert sum(round(10 * share) for share in percentages(amounts)) == 1000
