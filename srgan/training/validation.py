"""A run's progress after every epoch: scores and a picture of a few whole images."""

from collections.abc import Sequence

import keras
import numpy as np

from data_pipeline.images import Image
from data_pipeline.imresize import imresize
from srgan.evaluation.benchmark import Benchmark, score_pair, upscale_pair
from srgan.evaluation.comparison import centre_row
from srgan.evaluation.psnr_ssim import PsnrSsim, can_be_scored


class Validation:
    """The first few validation images of a data set, in memory, and bicubic's scores on them."""

    def __init__(self, benchmark: Benchmark, count: int) -> None:
        """Reads at most `count` images; those that are too small to be scored are only shown."""
        self._pairs = [benchmark.pair(number) for number in range(min(count, len(benchmark.hr)))]
        self._scored = [pair for pair in self._pairs if can_be_scored(pair.hr, border=pair.scale)]
        self._bicubic: dict[str, float] | None = None

    def examine(self, generator: keras.Model) -> tuple[dict[str, float], Image | None]:
        """Scores and shows a generator.

        Returns:
            Means over the images: `validation_psnr_rgb` in dB, `bicubic_psnr_rgb` and so on; and
            a picture, uint8 RGB: `centre_row` of every image. Without validation images an empty
            dict and None.
        """
        images = {pair.name: upscale_pair(generator, pair) for pair in self._pairs}
        scores = _means(
            [score_pair(pair, images[pair.name]) for pair in self._scored], "validation"
        )
        if self._bicubic is None:
            bicubic = [score_pair(pair, imresize(pair.lr, pair.scale)) for pair in self._scored]
            self._bicubic = _means(bicubic, "bicubic")
        rows = [centre_row(pair, images[pair.name]) for pair in self._pairs]
        return scores | self._bicubic, np.concatenate(rows) if rows else None


def _means(scores: Sequence[PsnrSsim], method: str) -> dict[str, float]:
    if not scores:
        return {}
    means = np.mean(np.array(scores), axis=0)
    return {
        f"{method}_{field}": round(float(mean), 4)
        for field, mean in zip(PsnrSsim._fields, means, strict=True)
    }
