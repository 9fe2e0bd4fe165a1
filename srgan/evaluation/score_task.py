"""What a worker of the cluster does: it scores images, by the baselines or by a generator.

Networks are imported where they are used: baselines need none.
"""

import os
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2

from data_pipeline.images import Image, encode_png
from data_pipeline.imresize import Kernel, enlarge_nearest, imresize
from data_pipeline.platform.errors import UserError
from data_pipeline.platform.storage import open_storage
from srgan.config import VggName
from srgan.config_file import parse_config
from srgan.evaluation.benchmark import Benchmark, Pair, lr_consistency, score_pair, upscale_pair
from srgan.evaluation.comparison import Panel, comparison_row
from srgan.evaluation.measures import Values
from srgan.evaluation.perceptual import iqa_values, run_extractors, vgg_distances
from srgan.evaluation.table import BICUBIC, HR, NEAREST, TITLES, ImageScore
from srgan.run_layout import CONFIG_KEY

if TYPE_CHECKING:
    import keras


class ScoreTask(NamedTuple):
    """Images to score.

    Attributes:
        benchmark: Holds these alone.
        run_uri: RUN whose VGG weights measure, or "".
        extractors: The VGG features that RUN has weights for.
        pictured: How many of them, from the first, get a row of the comparison picture.
        cpus: That the task takes.
        gpus: Likewise.
    """

    benchmark: Benchmark
    run_uri: str
    extractors: tuple[VggName, ...]
    pictured: int
    cpus: int
    gpus: int


class GeneratorFile(NamedTuple):
    """A generator to score.

    Attributes:
        name: Names its scores and its pictures: `srresnet` or `epoch-0025`.
        method: `srresnet` or `srgan`.
        epoch: None where it has none.
        key: Of its file in RUN.
        sha256: Of the file.
    """

    name: str
    method: str
    epoch: int | None
    key: str
    sha256: str


class ImageResult(NamedTuple):
    """An image's scores and, if wanted, its row of the comparison picture."""

    scores: list[ImageScore]
    row: Image | None


class BadInput(NamedTuple):
    """What the user has to fix, in one line."""

    message: str


def baselines(pair: Pair, kernel: Kernel) -> dict[str, Image]:
    """Nearest and bicubic enlargements of the pair's LR, of HR's shape."""
    scale = pair.hr.shape[0] // pair.lr.shape[0]
    return {
        NEAREST: enlarge_nearest(pair.lr, scale),
        BICUBIC: imresize(pair.lr, scale, kernel),
    }


Result = ImageResult | BadInput


def score_baselines(task: ScoreTask) -> list[Result]:
    """Scores nearest, bicubic and HR; a result for every image."""

    def score(pair: Pair) -> dict[str, Image]:
        return baselines(pair, task.benchmark.kernel) | {HR: pair.hr}

    return [_score_image(task, number, score, None) for number in range(len(task.benchmark.hr))]


def score_generator(
    task: ScoreTask, generator: GeneratorFile, config_text: str, out_uri: str
) -> list[Result]:
    """Scores a generator's SR and writes it to `sr/<generator>/<image>.png`."""
    _keep_to_resources(task)
    network = _generator(task, generator, config_text)
    if isinstance(network, BadInput):
        return [network] * len(task.benchmark.hr)
    out = open_storage(out_uri)

    def upscale(pair: Pair) -> dict[str, Image]:
        sr = upscale_pair(network, pair)
        out.write(sr_key(generator.name, pair.name), encode_png(sr))
        return {generator.method: sr}

    return [
        _score_image(task, number, upscale, generator.epoch)
        for number in range(len(task.benchmark.hr))
    ]


def _score_image(
    task: ScoreTask, number: int, make: Callable[[Pair], dict[str, Image]], epoch: int | None
) -> Result:
    """Scores what is made of an image, by method."""
    _keep_to_resources(task)
    try:
        pair = task.benchmark.pair(number)
        images = make(pair)
        scores = [
            ImageScore(epoch, method, pair.name, _measure(task, pair, image))
            for method, image in images.items()
        ]
    except UserError as error:
        return BadInput(str(error))
    if number >= task.pictured:
        return ImageResult(scores, None)
    shown = baselines(pair, task.benchmark.kernel) | images
    panels = [Panel(TITLES[method], image) for method, image in shown.items() if method != HR]
    return ImageResult(scores, comparison_row(panels, pair.hr))


def sr_key(generator: str, image: str) -> str:
    """Key of an SR image in an evaluation."""
    return f"sr/{generator}/{image}.png"


def _keep_to_resources(task: ScoreTask) -> None:
    """Before TensorFlow's first operation in this process, which reads these variables once."""
    cv2.setNumThreads(task.cpus)
    os.environ["TF_NUM_INTRAOP_THREADS"] = str(task.cpus)
    if not task.gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def _measure(task: ScoreTask, pair: Pair, image: Image) -> Values:
    extractors = run_extractors(task.run_uri, task.extractors)
    return {
        **score_pair(pair, image)._asdict(),
        "lr_psnr": lr_consistency(pair, image, task.benchmark.kernel),
        **vgg_distances(pair.hr, image, extractors),
        **iqa_values(pair.hr, image),
    }


def _generator(
    task: ScoreTask, generator: GeneratorFile, config_text: str
) -> "keras.Model | BadInput":
    """The generator. Only its weights are exchanged: the graphs for each size of image remain."""
    scale = task.benchmark.scale
    weights = _weights(task.run_uri, generator.key, generator.sha256, config_text, scale)
    if isinstance(weights, BadInput):
        return weights
    network = _network(config_text, scale)
    network.set_weights(weights)
    return network


@lru_cache(maxsize=1)
def _network(config_text: str, scale: int) -> "keras.Model":
    from srgan.networks import generator

    settings = parse_config(config_text, CONFIG_KEY).generator
    return generator(scale=scale, **settings.model_dump())


@lru_cache(maxsize=1)
def _weights(
    run_uri: str, key: str, sha256: str, config_text: str, scale: int
) -> list[Any] | BadInput:
    """A generator's weights, checked to be of the network that the run's configuration builds."""
    from srgan.upscale import architecture, load_generator

    run = open_storage(run_uri)
    try:
        stored = load_generator(run, key, sha256=sha256)
    except UserError as error:
        return BadInput(str(error))
    if architecture(stored) != architecture(_network(config_text, scale)):
        return BadInput(
            f"{run.uri}/{key}: is not the generator of {CONFIG_KEY} for images x{scale}; put back "
            "the file that jobs.train wrote, or pass images of its scale"
        )
    return list(stored.get_weights())
