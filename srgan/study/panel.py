"""Ratings as arrays: who answered what about which picture by which method. Pure."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from srgan.evaluation.table import METHODS
from srgan.study.records import TRAP, Key, Rating, Trial

Floats = npt.NDArray[np.float64]

Picture = tuple[str, tuple[int, int, int, int]]
"""The evaluation's image and the crop of it."""


class Panel(NamedTuple):
    """The answers to the scored trials.

    Attributes:
        raters: Pseudonyms; the first axis.
        pictures: The second axis.
        methods: In the order of METHODS; the axes that follow.
        values: acr: float64 [R, P, M], answers from 1 to 5, NaN where there is none.
            pairs: float64 [R, P, M, M], how often the first method was preferred to the second.
    """

    raters: list[str]
    pictures: list[Picture]
    methods: list[str]
    values: Floats

    def of(self, raters: Sequence[str]) -> "Panel":
        """The same of some raters."""
        kept = [number for number, rater in enumerate(self.raters) if rater in set(raters)]
        return self._replace(
            raters=[self.raters[number] for number in kept], values=self.values[kept]
        )


def trial_of(key: Key, rating: Rating) -> Trial:
    """The question that a rating answers."""
    return key.plans[rating.plan][rating.trial]


def make_panel(key: Key, ratings: Sequence[Rating]) -> Panel:
    """Puts the answers to scored trials into an array; repeats and other trials are left out."""
    raters = sorted({rating.rater for rating in ratings})
    shown = {
        name
        for plan in key.plans
        for trial in plan
        if trial.role == "scored"
        for name in trial.stimuli
    }
    pictures = sorted({(key.stimuli[name].image, key.stimuli[name].crop) for name in shown})
    used = {key.stimuli[name].method for name in shown} - {TRAP}
    methods = [method for method in METHODS if method in used]
    places = {
        name: (pictures.index((one.image, one.crop)), methods.index(one.method))
        for name, one in key.stimuli.items()
        if name in shown
    }
    rows = {rater: row for row, rater in enumerate(raters)}
    shape = (len(raters), len(pictures), len(methods))
    is_acr = key.mode == "acr"
    values = np.full(shape, np.nan) if is_acr else np.zeros((*shape, len(methods)))
    for rating in ratings:
        trial = trial_of(key, rating)
        if trial.role != "scored":
            continue
        row = rows[rating.rater]
        if is_acr:
            picture, method = places[trial.stimuli[0]]
            values[row, picture, method] = rating.answer
        else:
            better, worse = trial.stimuli if rating.answer == 0 else trial.stimuli[::-1]
            picture, first = places[better]
            values[row, picture, first, places[worse][1]] += 1
    return Panel(raters, pictures, methods, values)
