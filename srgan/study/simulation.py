"""A panel of raters that do not exist, to plan a study. Pure, and determined by the seed.

A rater sees a picture's quality, plus a bias of their own, plus noise of their own size, and
answers with the nearest of 1 to 5. The sizes are those of published panels.
"""

from typing import NamedTuple

import numpy as np

from srgan.evaluation.table import BICUBIC, HR, NEAREST, SRGAN, SRRESNET
from srgan.study.panel import Floats, make_panel
from srgan.study.records import Key, Rating, Trial

TRUE_SCORES = {NEAREST: 1.20, BICUBIC: 1.80, SRRESNET: 2.98, SRGAN: 3.72, HR: 4.32}
"""The mean opinion scores on Set14 of Ledig et al. (2017), table 2."""

BIAS = 0.3
"""Standard deviation over raters, in points, as in the public data of Netflix's sureal."""

INCONSISTENCY = (0.45, 0.85)
"""Standard deviation of a rater's noise, even between these; likewise."""

PICTURE = 0.35
"""Standard deviation of how much better a method does on one picture than on another; chosen."""

_MILLISECONDS = 4000


class World(NamedTuple):
    """A panel and the pictures that it sees.

    Attributes:
        bias: float64 [R], of each rater.
        inconsistency: float64 [R], of each rater.
        quality: float64 [P, M], of each picture by each method, before answers are rounded.
    """

    bias: Floats
    inconsistency: Floats
    quality: Floats


def draw_world(rng: np.random.Generator, raters: int, pictures: int, truth: Floats) -> World:
    """Draws a panel and pictures.

    Args:
        rng: The source of chance.
        raters: R.
        pictures: P.
        truth: float64 [M], the methods' true mean opinion scores: the mean answer of all possible
            raters to all possible pictures, between 1 and 5.
    """
    quality = _latent(truth) + rng.normal(0, PICTURE, (pictures, len(truth)))
    return World(rng.normal(0, BIAS, raters), rng.uniform(*INCONSISTENCY, raters), quality)


def _latent(truth: Floats) -> Floats:
    """The mean quality [M] whose rounded answers have the mean `truth`."""
    nodes, weights = np.polynomial.legendre.leggauss(16)
    low, high = INCONSISTENCY
    noise = (low + high) / 2 + (high - low) / 2 * nodes
    spread = np.sqrt(BIAS**2 + PICTURE**2 + noise**2)

    def mean_answer(quality: float) -> float:
        from scipy.special import ndtr

        above = sum(ndtr((quality - border) / spread) for border in (1.5, 2.5, 3.5, 4.5))
        return 1 + float(np.sum(weights / 2 * above))

    from scipy.optimize import brentq

    return np.array([brentq(lambda x, t=one: mean_answer(x) - t, -10, 16) for one in truth])


def rate_all(rng: np.random.Generator, world: World) -> Floats:
    """Every rater's answer to every picture: float64 [R, P, M]."""
    shape = (len(world.bias), *world.quality.shape)
    bias, size = world.bias[:, None, None], world.inconsistency[:, None, None]
    return _rounded(world.quality + bias + size * rng.standard_normal(shape))


def _rounded(seen: Floats) -> Floats:
    return np.clip(np.floor(seen + 0.5), 1, 5)


def simulate(key: Key, raters: int, seed: int) -> list[Rating]:
    """The answers of a simulated panel to a study, marked as simulated.

    All raters are attentive: they pass training, traps and gold questions.
    """
    panel = make_panel(key, [])
    rng = np.random.default_rng(seed)
    truth = np.array([TRUE_SCORES[method] for method in panel.methods])
    world = draw_world(rng, raters, len(panel.pictures), truth)
    places = {
        name: (panel.pictures.index((one.image, one.crop)), panel.methods.index(one.method))
        for name, one in key.stimuli.items()
        if (one.image, one.crop) in panel.pictures
    }

    def answer(rater: int, trial: Trial) -> int:
        if trial.expected:
            return trial.expected[0]
        seen = [
            world.quality[places[name]] + world.inconsistency[rater] * rng.standard_normal()
            for name in trial.stimuli
        ]
        if key.mode == "pairs":  # the bias is in both
            return int(seen[0] < seen[1])
        return int(_rounded(np.asarray(seen[0] + world.bias[rater])))

    return [
        Rating(
            f"simulated-{rater:04}",
            rater % len(key.plans),
            trial.number,
            answer(rater, trial),
            _MILLISECONDS,
            simulated=True,
        )
        for rater in range(raters)
        for trial in key.plans[rater % len(key.plans)]
    ]
