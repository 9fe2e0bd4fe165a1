"""The images that a report shows, chosen by a rule."""

import logging
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from data_pipeline.images import ImageError, decode_image
from data_pipeline.platform.storage import Storage
from srgan.evaluation.benchmark import Benchmark
from srgan.evaluation.comparison import detail_panels
from srgan.evaluation.report import Example
from srgan.evaluation.score_task import sr_key
from srgan.evaluation.table import BICUBIC, ImageScore

_log = logging.getLogger(__name__)


class ShownGenerator(NamedTuple):
    """A generator whose SR images are shown.

    Attributes:
        out: The evaluation that holds its SR images.
        name: Its name there.
        title: Its title in the report.
    """

    out: Storage
    name: str
    title: str


def choose_images(
    bicubic: Sequence[ImageScore], judged: Sequence[ImageScore] | None
) -> dict[str, str]:
    """The worst, the median and the best image, and why each is shown.

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
    order = sorted(gains, key=lambda image: (gains[image], image))
    last = len(order) - 1
    whys: dict[str, str] = {}
    for word, place in {"worst": 0, "median": last // 2, "best": last}.items():
        whys.setdefault(order[place], f"{word}: {text.format(gains[order[place]])}")
    return whys


def make_examples(
    benchmark: Benchmark, chosen: Mapping[str, str], generators: Sequence[ShownGenerator]
) -> list[Example]:
    """Reads the chosen images and their SR images.

    An SR image that was deleted or damaged since it was scored is left out; the log says so.
    """
    numbers = {file.name: number for number, file in enumerate(benchmark.hr)}
    examples = []
    for image, why in chosen.items():
        generated = {}
        for generator in generators:
            key = sr_key(generator.name, image)
            try:
                generated[generator.title] = decode_image(generator.out.read(key))
            except (FileNotFoundError, ImageError) as error:
                where = f"{generator.out.uri}/{key}"
                _log.warning("%s: the report does not show it: %s", where, error)
        panels = detail_panels(benchmark.pair(numbers[image]), benchmark.kernel, generated)
        examples.append(Example(image, why, tuple(panels)))
    return examples
