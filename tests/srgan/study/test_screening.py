"""Raters are left out by rules that a reader can work out by hand."""

import numpy as np

from srgan.study.records import Key, Rating, Stimulus, Trial
from srgan.study.screening import bt500_outliers, screen

NORMAL = [2, 2, 3, 3, 3, 3, 3, 3, 3, 4, 4]
"""With a 5: mean 19/6, second moment 0.639, fourth 1.331, kurtosis 3.26, standard deviation 0.835.
So the limit is 2 standard deviations, 1.670, and the 5 is 1.833 above the mean."""

PEAKED = [3] * 11
"""With a 5: mean 19/6, kurtosis 10.09, standard deviation 0.577. The limit is sqrt(20) of them,
2.582, and the 5 is 1.833 above the mean: not far. In a panel of 67 it is far: 1.970 and 1.093."""


def panel(above: int, below: int, others: int) -> np.ndarray:
    """12 raters: the last is far above, far below, or as the others."""
    columns = [[*NORMAL, 5]] * above + [[*(6 - one for one in NORMAL), 1]] * below
    return np.array([*columns, *[[3] * 12] * others], dtype=float).T


def test_bt500_by_hand():
    # P = 3 and Q = 2 of 20: often, and |P - Q| / (P + Q) = 0.2.
    assert list(np.flatnonzero(bt500_outliers(panel(3, 2, 15)))) == [11]
    # 4 and 1: 0.6. A rater who is only generous is kept.
    assert not bt500_outliers(panel(4, 1, 15)).any()
    # 3 and 2 of 100 are 5 %, and not more.
    assert not bt500_outliers(panel(3, 2, 95)).any()
    assert list(np.flatnonzero(bt500_outliers(panel(3, 2, 94)))) == [11]


def test_bt500_is_wider_where_answers_are_not_normal():
    peaked = np.array([[*PEAKED, 5], [*PEAKED, 1]] * 5, dtype=float).T
    assert not bt500_outliers(peaked).any()
    many = np.array([[3] * 66 + [5], [3] * 66 + [1]] * 5, dtype=float).T
    assert list(np.flatnonzero(bt500_outliers(many))) == [66]


def test_bt500_counts_only_what_a_rater_answered():
    answers = panel(3, 2, 95)
    answers[11, 40:] = np.nan  # now 5 of 40
    assert list(np.flatnonzero(bt500_outliers(answers))) == [11]
    answers[:, -1] = np.nan
    assert list(np.flatnonzero(bt500_outliers(answers))) == [11]


def study(mode="acr"):
    """8 crops by HR and nearest, 3 repeats, 2 gold questions and a trap."""
    stimuli = [
        Stimulus(f"{method}{number}", f"image{number}", method, (0, 0, 8, 8))
        for number in range(9)
        for method in ("hr", "nearest")
    ]
    stimuli.append(Stimulus("trap", "", "trap", (0, 0, 8, 8)))
    if mode == "acr":
        shown = [(f"{method}{number}",) for number in range(8) for method in ("hr", "nearest")]
        checks = [
            ("gold", ("hr8",), (4, 5)),
            ("gold", ("nearest8",), (1, 2)),
            ("trap", ("trap",), (2,)),
        ]
    else:
        shown = [(f"hr{number}", f"nearest{number}") for number in range(8)]
        checks = [("gold", ("hr8", "nearest8"), (0,)), ("trap", ("trap", "hr8"), (1,))]
    repeats = [one if number % 2 else one[::-1] for number, one in enumerate(shown[:4])]
    rows = [
        *(("scored", one, ()) for one in shown),
        *(("repeat", one, ()) for one in repeats),
        *checks,
    ]
    plan = [Trial(number, 0, *row) for number, row in enumerate(rows)]
    return Key(mode, "evaluation", 1, {}, {one.name: one for one in stimuli}, [plan])


def rated(key, rater, answer, wrong=(), until=None):
    """`answer` gives the answer of a trial that expects none; `wrong` names trials to fail."""
    return [
        Rating(
            rater,
            0,
            trial.number,
            answer(trial)
            if not trial.expected
            else (
                trial.expected[0]
                if trial.number not in wrong
                else 3
                if key.mode == "acr"
                else 1 - trial.expected[0]
            ),
            900,
        )
        for trial in key.plans[0][:until]
    ]


def sane(trial):
    return 5 if trial.stimuli[0].startswith("hr") else 1


def reasons(key, *panels):
    found = screen(key, [rating for one in panels for rating in one])
    return {one.rater: one.reasons for one in found}


def test_traps_and_gold_questions():
    key = study()
    trap, gold = len(key.plans[0]) - 1, len(key.plans[0]) - 2
    found = reasons(
        key,
        rated(key, "attentive", sane),
        rated(key, "one slip", sane, wrong={gold}),
        rated(key, "careless", sane, wrong={gold, trap}),
    )
    assert found == {
        "attentive": (),
        "one slip": (),
        "careless": ("missed 2 of 3 traps and gold questions",),
    }


def test_who_stopped_early_is_left_out():
    key = study()
    found = reasons(key, rated(key, "a", sane, until=8), rated(key, "b", sane, until=7))
    assert found == {"a": (), "b": ("answered 7 of 16 trials",)}


def test_repeats():
    key = study()

    def fickle(trial):
        return 6 - sane(trial) if trial.role == "repeat" and trial.number % 2 else sane(trial)

    (facts,) = screen(key, rated(key, "a", fickle))
    assert facts.repeats == 2
    assert facts.reasons == ("repeats are 2.0 points apart",)
    (facts,) = screen(
        key,
        rated(key, "a", lambda trial: sane(trial) - (trial.role == "repeat") * (sane(trial) > 1)),
    )
    assert facts.repeats == 0.5
    assert facts.reasons == ()


def test_repeats_of_pairs_count_with_swapped_sides():
    key = study("pairs")
    (facts,) = screen(
        key, rated(key, "a", lambda trial: int(trial.stimuli[0].startswith("nearest")))
    )
    assert (facts.repeats, facts.reasons) == (1, ())
    # Who always presses the left side chooses differently when the sides are swapped.
    (facts,) = screen(key, rated(key, "a", lambda _: 0))
    assert (facts.repeats, facts.reasons) == (0.5, ())
    (facts,) = screen(
        key,
        rated(
            key,
            "a",
            lambda trial: (
                int(trial.role == "scored") ^ (trial.number % 2 == 0 and trial.role == "repeat")
            ),
        ),
    )
    assert facts.repeats == 0
    assert facts.reasons == ("chose again the same in 0% of 4 repeats",)


def test_bt500_judges_those_who_pass_the_other_rules():
    key = study()
    numbers = np.random.default_rng(0)

    def usual(trial):
        return int(np.clip(sane(trial) + numbers.integers(-1, 2), 1, 5))

    def opposite(trial):
        return 6 - sane(trial)

    others = [rated(key, f"r{number:02}", usual) for number in range(40)]
    found = reasons(key, *others, rated(key, "zz", opposite))
    assert found.pop("zz") == ("far from the others, above and below alike (ITU-R BT.500)",)
    assert set(found.values()) == {()}
