"""The images that a report shows, chosen by a rule."""

import logging
import math
from collections.abc import Mapping, Sequence

from data_pipeline.images import ImageError, decode_image
from data_pipeline.platform.storage import Storage
from srgan.evaluation.benchmark import Benchmark
from srgan.evaluation.comparison import detail_panels
from srgan.evaluation.report import Example
from srgan.evaluation.score_task import sr_key
from srgan.evaluation.table import BICUBIC, ImageScore

_log = logging.getLogger(__name__)


def choose_images(
    bicubic: Sequence[ImageScore], judged: Sequence[ImageScore] | None
) -> dict[str, str]:
    """The worst, the median and the best image, and why each is shown.

    An image that a method reproduces has no finite gain, and is not chosen; if no image has one,
    the first is shown.

    Args:
        bicubic: Scores, bicubic's among them.
        judged: A generator's scores: images are ordered by what it gains over bicubic in PSNR (Y).
            None orders them by bicubic's own PSNR (Y).
    """
    base = {row.image: row.values["psnr_y"] for row in bicubic if row.method == BICUBIC}
    if judged:
        gains = {row.image: row.values["psnr_y"] - base[row.image] for row in judged}
        text = "{:+.2f} dB against bicubic (PSNR Y)"
    else:
        gains, text = base, "bicubic {:.2f} dB (PSNR Y)"
    finite = [image for image, gain in gains.items() if math.isfinite(gain)]
    if not finite:
        return {min(gains): "no image has a finite PSNR (Y) to choose by"}
    order = sorted(finite, key=lambda image: (gains[image], image))
    last = len(order) - 1
    whys: dict[str, str] = {}
    for word, place in {"worst": 0, "median": last // 2, "best": last}.items():
        whys.setdefault(order[place], f"{word}: {text.format(gains[order[place]])}")
    return whys


def make_examples(
    benchmark: Benchmark,
    chosen: Mapping[str, str],
    generators: Mapping[str, tuple[Storage, str]],
) -> list[Example]:
    """Reads the chosen images and their SR images.

    An SR image that was deleted or damaged since it was scored is left out; the log says so.

    Args:
        benchmark: All images.
        chosen: The images to show, and why each is shown.
        generators: The generators to show by their title: the evaluation that holds the SR images,
            and the generator's name there.
    """
    numbers = {file.name: number for number, file in enumerate(benchmark.hr)}
    examples = []
    for image, why in chosen.items():
        generated = {}
        for title, (out, name) in generators.items():
            key = sr_key(name, image)
            try:
                generated[title] = decode_image(out.read(key))
            except (FileNotFoundError, ImageError) as error:
                _log.warning("%s/%s: the report does not show it: %s", out.uri, key, error)
        panels = detail_panels(benchmark.pair(numbers[image]), benchmark.kernel, generated)
        examples.append(Example(image, why, tuple(panels)))
    return examples
