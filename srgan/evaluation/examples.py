"""The images that a report shows: chosen by a rule, not by hand."""

import logging
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from data_pipeline.images import ImageError, as_rgb, decode_image
from data_pipeline.platform.storage import Storage
from srgan.evaluation.benchmark import Benchmark
from srgan.evaluation.comparison import Panel, most_detailed_crop, psnr_label
from srgan.evaluation.report import Example
from srgan.evaluation.score_files import ScoreSet
from srgan.evaluation.score_task import baselines, sr_key
from srgan.evaluation.table import BICUBIC, HR, TITLES, ImageScore

_CROP = 128

_log = logging.getLogger(__name__)


class ShownGenerator(NamedTuple):
    """A generator whose SR images are shown: where they lie, its name there and its label."""

    out: Storage
    generator: str
    label: str


def choose_images(bicubic: Sequence[ImageScore], judged: ScoreSet | None) -> dict[str, str]:
    """The worst, the median and the best image, and why each is shown.

    They are ordered by what `judged` gains over bicubic in PSNR (Y); without a generator by
    bicubic's own PSNR.
    """
    base = {row.image: row.values["psnr_y"] for row in bicubic if row.method == BICUBIC}
    if judged:
        gains = {row.image: row.values["psnr_y"] - base[row.image] for row in judged.scores}
        text = "{:+.2f} dB against bicubic (PSNR Y)"
    else:
        gains, text = base, "bicubic {:.2f} dB (PSNR Y)"
    order = sorted(gains, key=lambda image: (gains[image], image))
    last = len(order) - 1
    places = {"worst": 0, "median": last // 2, "best": last}
    whys: dict[str, str] = {}
    for word, place in places.items():
        whys.setdefault(order[place], f"{word}: {text.format(gains[order[place]])}")
    return whys


def make_examples(
    benchmark: Benchmark, chosen: Mapping[str, str], sources: Sequence[ShownGenerator]
) -> list[Example]:
    """Reads the chosen images and the SR images of them.

    An SR image that was deleted or damaged since it was scored is left out, with a line in the
    log.
    """
    examples = []
    for number, file in enumerate(benchmark.hr):
        if file.name not in chosen:
            continue
        pair = benchmark.pair(number)
        images = {
            TITLES[method]: image for method, image in baselines(pair, benchmark.kernel).items()
        }
        for source in sources:
            key = sr_key(source.generator, pair.name)
            try:
                images[source.label] = decode_image(source.out.read(key))
            except (FileNotFoundError, ImageError) as error:
                _log.warning("%s/%s: the report does without it: %s", source.out.uri, key, error)
        top, left = most_detailed_crop(pair.hr, _CROP)
        inside = (slice(top, top + _CROP), slice(left, left + _CROP))
        images[TITLES[HR]] = pair.hr
        panels = [
            Panel(psnr_label(label, pair.hr[inside], image[inside]), as_rgb(image[inside]))
            for label, image in images.items()
        ]
        examples.append(Example(pair.name, chosen[pair.name], tuple(panels)))
    order = list(chosen)
    return sorted(examples, key=lambda example: order.index(example.image))
