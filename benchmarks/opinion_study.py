"""An opinion study's intervals: how often they hold the true mean, and how wide they are.

python -m benchmarks.opinion_study [--studies 1000]

All raters are simulated (srgan/study/simulation.py), and so are the true means. `held` is the share
of 95 % intervals that hold the true mean of a method; raters whom BT.500 leaves out are left out.
`half_widths` is the widest method's half of the interval; `raters_for_0_2` the fewest raters with
which it is at most 0.2 points.
"""

import argparse
from typing import Any

import numpy as np

from benchmarks.common import print_result
from srgan.study.bootstrap import two_way_bootstrap
from srgan.study.power import components, fewest_raters, half_width
from srgan.study.screening import bt500_outliers
from srgan.study.simulation import TRUE_SCORES, draw_world, rate_all

_PANELS = ((24, 8), (12, 20), (40, 32))
_RATERS, _CROPS = (12, 24, 48), (8, 16, 32)


def main() -> None:
    """Simulates the studies and prints the shares and widths."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.opinion_study")
    parser.add_argument("--studies", type=int, default=1000)
    studies = parser.parse_args().studies
    truth = np.array(list(TRUE_SCORES.values()))
    rng = np.random.default_rng(0)
    large = components(rate_all(rng, draw_world(rng, 300, 2000, truth)))
    result: dict[str, Any] = {"studies": studies, "held": {}, "half_widths": {}}
    for raters, crops in _PANELS:
        held = np.zeros(len(truth))
        for number in range(studies):
            answers = rate_all(rng, draw_world(rng, raters, crops, truth))
            kept = ~bt500_outliers(answers.reshape(raters, -1))
            low, high = two_way_bootstrap(answers[kept], resamples=999, seed=number).intervals()
            held += (low <= truth) & (high >= truth)
        shares = dict(zip(TRUE_SCORES, held / studies, strict=True))
        result["held"][f"{raters} raters, {crops} crops"] = {"all": held.mean() / studies, **shares}
    for crops in _CROPS:
        result["half_widths"][f"{crops} crops"] = {
            f"{raters} raters": half_width(large, raters, crops).max() for raters in _RATERS
        }
    result["raters_for_0_2"] = {
        f"{crops} crops": fewest_raters(large, crops, 0.2) or "none" for crops in _CROPS
    }
    print_result(result)


if __name__ == "__main__":
    main()
