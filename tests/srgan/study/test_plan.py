import random
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from srgan.evaluation.table import METHODS
from srgan.study.crops import ChosenCrops, Crop, choose_crops, crops_of
from srgan.study.plan import PLANS, make_plan


def chosen(count):
    crops = [Crop(f"image {n}", (0, 0, 64, 64), float(n)) for n in range(count + 4)]
    return ChosenCrops(crops[4:], crops[:2], crops[2:4])


@pytest.fixture(scope="module", params=["acr", "pairs"])
def mode(request):
    return request.param


@pytest.fixture(scope="module", params=[4, 7, 24])
def planned(request, mode):
    return make_plan(chosen(request.param), METHODS, mode, 1)


def methods_of(planned, trial):
    return tuple(planned.stimuli[name].method for name in trial.stimuli)


def test_every_rater_sees_each_method_equally_often(planned):
    for plan in planned.plans:
        for role in ("scored", "repeat", "training", "gold"):
            counts = Counter(
                method
                for trial in plan
                if trial.role == role
                for method in methods_of(planned, trial)
            )
            assert len(set(counts.values())) == 1
            assert set(counts) == (
                set(METHODS) if role in ("scored", "repeat") else {"nearest", "hr"}
            )


def test_no_rater_is_asked_twice_but_for_repeats(planned, mode):
    for plan in planned.plans:
        scored = [
            (planned.stimuli[one.stimuli[0]].image, frozenset(methods_of(planned, one)))
            for one in plan
            if one.role == "scored"
        ]
        assert len(set(scored)) == len(scored)
        images = {image for image, _ in scored}
        assert len(scored) == len(images) * (10 if mode == "pairs" else 5)


def test_pictures_of_a_crop_are_not_side_by_side(planned):
    for plan in planned.plans:
        places = [planned.stimuli[trial.stimuli[0]].image or trial.number for trial in plan]
        assert all(before != after for before, after in pairwise(places))


def test_repeats_show_an_earlier_trial_again(planned):
    for plan in planned.plans:
        first = {trial.stimuli: trial.number for trial in plan if trial.role == "scored"}
        repeats = [trial for trial in plan if trial.role == "repeat"]
        assert len(repeats) == 5
        assert all(trial.number > first[trial.stimuli] + 1 for trial in repeats)


def test_training_is_first_and_its_ends_are_nearest_and_hr(planned, mode):
    for plan in planned.plans:
        number = 2 if mode == "pairs" else 4
        assert [trial.role == "training" for trial in plan] == [True] * number + [False] * (
            len(plan) - number
        )
        for trial in plan:
            methods = methods_of(planned, trial)
            if trial.role == "training" and mode == "acr":
                assert trial.expected == ((1,) if methods == ("nearest",) else (5,))
            if trial.role in ("training", "gold") and mode == "pairs":
                assert methods[trial.expected[0]] == "hr"
            if trial.role == "gold" and mode == "acr":
                assert trial.expected == ((1, 2) if methods == ("nearest",) else (4, 5))
            if trial.role in ("scored", "repeat"):
                assert trial.expected == ()


def test_traps_say_what_they_want(planned, mode):
    for plan in planned.plans:
        traps = [trial for trial in plan if trial.role == "trap"]
        assert [trial.session for trial in traps] == list(range(plan[-1].session + 1))
        for trial in traps:
            texts = [planned.traps[name] for name in trial.stimuli]
            if mode == "acr":
                assert texts == [f"PRESS {trial.expected[0]}"]
            else:
                assert texts[trial.expected[0]] == "CHOOSE THIS"
                assert texts[1 - trial.expected[0]] == "NOT THIS"


def test_sessions_take_ten_minutes_at_most(planned, mode):
    most = 60 if mode == "pairs" else 75
    for plan in planned.plans:
        lengths = Counter(trial.session for trial in plan)
        assert max(lengths.values()) <= most
        assert max(lengths.values()) - min(lengths.values()) <= 1
        assert [trial.number for trial in plan] == list(range(len(plan)))


def test_the_order_tells_no_method(planned, mode):
    """Over all plans every method of a crop is as often the first, the second, ... of it."""
    arms = 10 if mode == "pairs" else 5
    seen, left = Counter(), Counter()
    for plan in planned.plans:
        turns = Counter()
        for trial in plan:
            if trial.role == "scored":
                image, methods = planned.stimuli[trial.stimuli[0]].image, methods_of(planned, trial)
                seen[image, turns[image], frozenset(methods)] += 1
                left[image, methods] += 1
                turns[image] += 1
    assert set(seen.values()) == {PLANS // arms}
    assert len(set(left.values())) == 1


def test_the_seed_determines_all(mode):
    assert make_plan(chosen(5), METHODS, mode, 3) == make_plan(chosen(5), METHODS, mode, 3)
    assert make_plan(chosen(5), METHODS, mode, 3) != make_plan(chosen(5), METHODS, mode, 4)


def test_names_tell_nothing(planned):
    assert all(len(name) == 16 and int(name, 16) >= 0 for name in planned.stimuli)
    assert sorted(planned.stimuli) != list(planned.stimuli)


def test_half_of_the_crops_are_the_most_textured():
    crops = [
        Crop(image, (0, 64 * n, 64, 64), texture)
        for image, textures in {"a": (9, 8, 1, 1), "b": (5, 2, 2, 2), "c": (3, 1, 1, 1)}.items()
        for n, texture in enumerate(map(float, textures))
    ]
    found = choose_crops(crops, 4, random.Random(0))
    textures = [(crop.image, crop.texture) for crop in found.scored[:2]]
    assert textures == [("a", 9), ("b", 5)]
    assert [(one.image, one.texture) for one in found.calibration] == [("c", 3), ("a", 8)]
    assert [one.texture for one in found.gold] == [2, 1]
    every = found.scored + found.calibration + found.gold
    assert len(set(every)) == 8
    picks = {tuple(choose_crops(crops, 4, random.Random(n)).scored[2:]) for n in range(20)}
    assert len(picks) > 3
    assert choose_crops(crops[:7], 4, random.Random(0)) is None


def test_crops_are_a_grid_in_the_middle():
    hr = np.zeros((130, 200, 1), np.uint8)
    hr[1:65:2, 4:68] = 255
    found = list(crops_of("x", hr, 64))
    assert [crop.box for crop in found] == [
        (top, left, 64, 64) for top in (1, 65) for left in (4, 68, 132)
    ]
    assert max(found, key=lambda crop: crop.texture).box == (1, 4, 64, 64)
    assert found[0].of(hr).shape == (64, 64, 1)
    assert found[0].of(hr)[0].all()
    assert list(crops_of("x", hr, 256)) == []
