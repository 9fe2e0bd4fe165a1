"""The images that a report shows, chosen by a rule."""

import logging
import math
from collections.abc import Mapping, Sequence

from data_pipeline.images import ImageError, decode_image
from data_pipeline.platform.storage import Storage
from srgan.evaluation.benchmark import Benchmark
from srgan.evaluation.comparison import detail_panels, detail_place
from srgan.evaluation.report import Example
from srgan.evaluation.score_files import ScoreFile
from srgan.evaluation.score_task import sr_key
from srgan.evaluation.table import BICUBIC, TITLES, ImageScore

_log = logging.getLogger(__name__)


def choose_images(
    bicubic: Sequence[ImageScore], judged: Sequence[ImageScore] | None, title: str = ""
) -> dict[str, str]:
    """The worst, the median and the best image, and why each is shown.

    An image that a method reproduces has no finite gain, and is not chosen; if no image has one,
    the first is shown.

    Args:
        bicubic: Scores, bicubic's among them.
        judged: A generator's scores: images are ordered by what it gains over bicubic in PSNR (Y).
            None orders them by bicubic's own PSNR (Y).
        title: The generator's name for people.
    """
    base = {row.image: row.values["psnr_y"] for row in bicubic if row.method == BICUBIC}
    gains = (
        {row.image: row.values["psnr_y"] - base[row.image] for row in judged} if judged else base
    )
    finite = [image for image, gain in gains.items() if math.isfinite(gain)]
    if not finite:
        return {min(gains): "no image has a finite PSNR (Y) to choose by"}
    order = sorted(finite, key=lambda image: (gains[image], image))
    last = len(order) - 1
    whys: dict[str, str] = {}
    for word, place in {"worst": 0, "median": last // 2, "best": last}.items():
        gain = gains[order[place]]
        found = f"{gain:+.2f} dB PSNR (Y) against bicubic" if judged else f"{gain:.2f} dB PSNR (Y)"
        whys.setdefault(
            order[place], f"{word} of {title if judged else TITLES[BICUBIC]}: {found}, whole image"
        )
    return whys


def make_examples(
    benchmark: Benchmark,
    chosen: Mapping[str, str],
    baselines: ScoreFile,
    generators: Mapping[str, tuple[Storage, ScoreFile]],
    judged: str,
) -> list[Example]:
    """Reads the chosen images and their SR images.

    An SR image that was deleted or damaged since it was scored is left out; the log says so.

    Args:
        benchmark: All images.
        chosen: The images to show, and why each is shown.
        baselines: The scores of nearest and bicubic.
        generators: The generators to show by their title: the evaluation that holds the SR images,
            and the generator's scores there.
        judged: The title of the generator by which the images were chosen; "" if there is none.
    """
    numbers = {file.name: number for number, file in enumerate(benchmark.hr)}
    ratios = {(TITLES[row.method], row.image): row.values["psnr_y"] for row in baselines.scores}
    for title, (_, file) in generators.items():
        ratios |= {(title, row.image): row.values["psnr_y"] for row in file.scores}
    examples = []
    for image, why in chosen.items():
        pair = benchmark.pair(numbers[image])
        generated = {}
        for title, (out, file) in generators.items():
            key = sr_key(file.name, image)
            try:
                generated[title] = decode_image(out.read(key))
            except (FileNotFoundError, ImageError) as error:
                _log.warning("%s/%s: the report does not show it: %s", out.uri, key, error)
        panels = tuple(
            panel._replace(image_psnr=_finite(ratios.get((panel.title, image))))
            for panel in detail_panels(pair, benchmark.kernel, generated)
        )
        examples.append(Example(image, why, panels, judged, detail_place(pair.hr)))
    return examples


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
