"""Raters who are too strict or too careless: ITU-T P.910 (2023), Annex E. Pure."""

from typing import NamedTuple

import numpy as np

from srgan.study.panel import Floats

_MOST_ROUNDS, _CHANGE, _EPSILON = 1000, 1e-8, 1e-8


class RaterModel(NamedTuple):
    """An answer is a stimulus's quality, plus its rater's bias, plus noise of that rater.

    Attributes:
        quality: float64 [J]: the stimuli's scores without the raters' bias.
        bias: float64 [I]: how much higher a rater answers than the panel; their mean is 0.
        inconsistency: float64 [I]: the standard deviation of a rater's noise.
    """

    quality: Floats
    bias: Floats
    inconsistency: Floats


def fit_rater_model(answers: Floats) -> RaterModel:
    """Estimates the model by alternating projection.

    Li, Bampis, Krasula, Janowski and Katsavounidis (2020), "A simple model for subject behavior in
    subjective experiments", algorithm 1, which P.910 adopts: a stimulus's score is the mean of the
    answers without bias, weighted by 1 / inconsistency^2. After 1,000 rounds the estimate is taken
    as it is.

    Args:
        answers: float64 [J, I], stimuli by raters, NaN where there is no answer. Every stimulus
            and every rater has answers.
    """
    quality = np.nanmean(answers, axis=1)
    bias = np.nanmean(answers - quality[:, None], axis=0)
    for _ in range(_MOST_ROUNDS):
        before = quality
        inconsistency = np.nanstd(answers - quality[:, None] - bias, axis=0)
        weights = np.where(np.isnan(answers), 0.0, 1 / (inconsistency**2 + _EPSILON))
        unbiased = np.nan_to_num(answers - bias)
        quality = np.sum(weights * unbiased, axis=1) / np.sum(weights, axis=1)
        bias = np.nanmean(answers - quality[:, None], axis=0)
        if np.linalg.norm(quality - before) < _CHANGE:
            break
    shift = float(np.mean(bias))
    return RaterModel(quality + shift, bias - shift, inconsistency)
