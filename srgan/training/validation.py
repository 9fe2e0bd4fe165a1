"""What shows a run's progress after every epoch: scores and a picture of a few whole images."""

from collections.abc import Sequence

import keras
import numpy as np

from data_pipeline.images import Image, as_rgb
from data_pipeline.imresize import enlarge_nearest, imresize
from srgan.evaluation.benchmark import Benchmark, Pair, score_pair, upscale_pair
from srgan.evaluation.psnr_ssim import Scores, can_be_scored

_SHOWN_LR_SIDE = 40


class Validation:
    """The first few validation images of a data set, in memory, and bicubic's scores on them."""

    def __init__(self, benchmark: Benchmark, count: int) -> None:
        """Reads at most `count` images; those that are too small to be scored are only shown."""
        self._pairs = [benchmark.pair(number) for number in range(min(count, len(benchmark.hr)))]
        self._scale = benchmark.scale
        self._scored = [pair for pair in self._pairs if can_be_scored(pair.hr, border=self._scale)]
        self._bicubic: dict[str, float] | None = None

    def examine(self, generator: keras.Model) -> tuple[dict[str, float], Image | None]:
        """Scores and shows a generator.

        Returns:
            Means over the images: `validation_psnr_rgb` in dB and so on, and beside them
            `bicubic_psnr_rgb` and so on; and a picture, uint8 RGB: a row per image, the centre of
            LR (nearest), SR and HR. Nothing without validation images.
        """
        images = {pair.name: upscale_pair(generator, pair) for pair in self._pairs}
        scores = _means(
            [score_pair(pair, images[pair.name]) for pair in self._scored], "validation"
        )
        if self._bicubic is None:
            upscaled = [imresize(pair.lr, self._scale) for pair in self._scored]
            self._bicubic = _means(list(map(score_pair, self._scored, upscaled)), "bicubic")
        rows = [_row(pair, images[pair.name]) for pair in self._pairs]
        return scores | self._bicubic, np.concatenate(rows) if rows else None


def _means(scores: Sequence[Scores], method: str) -> dict[str, float]:
    if not scores:
        return {}
    means = np.mean(np.array(scores), axis=0)
    return {
        f"{method}_{field}": round(float(mean), 4)
        for field, mean in zip(Scores._fields, means, strict=True)
    }


def _row(pair: Pair, sr: Image) -> Image:
    """The centre of nearest | SR | HR, filled up with black."""
    scale = pair.hr.shape[0] // pair.lr.shape[0]
    height, width = (min(side, _SHOWN_LR_SIDE) * scale for side in pair.lr.shape[:2])
    top, left = ((side - shown) // 2 for side, shown in zip(sr.shape, (height, width)))  # noqa: B905
    panels = [
        as_rgb(image)[top : top + height, left : left + width]
        for image in (enlarge_nearest(pair.lr, scale), sr, pair.hr)
    ]
    row = np.concatenate(panels, axis=1)
    side = _SHOWN_LR_SIDE * scale
    return np.pad(row, ((0, side - row.shape[0]), (0, 3 * side - row.shape[1]), (0, 0)))
