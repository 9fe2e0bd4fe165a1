"""One task of an evaluation: a worker of the cluster scores some images.

The images are made by the baselines or by a generator. Networks are imported where they are used:
the baselines need none.
"""

from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from data_pipeline.images import Image, encode_png
from data_pipeline.platform.devices import use_devices
from data_pipeline.platform.errors import UserError
from data_pipeline.platform.storage import Storage, open_storage
from srgan.config import GeneratorConfig
from srgan.evaluation.benchmark import (
    Benchmark,
    Pair,
    baselines,
    lr_consistency,
    score_pair,
    upscale_pair,
)
from srgan.evaluation.comparison import detail_panels, labelled_row
from srgan.evaluation.measures import Values
from srgan.evaluation.perceptual import iqa_values, run_extractors, vgg_distances
from srgan.evaluation.run_reader import GeneratorFile, TrainingRun
from srgan.evaluation.table import HR, TITLES, ImageScore
from srgan.run_layout import CONFIG_KEY

if TYPE_CHECKING:
    import keras


class ScoreTask(NamedTuple):
    """Images to score.

    Attributes:
        benchmark: The images of this task.
        run: The RUN of the generator and of the VGG weights that measure; None for the baselines
            alone.
        generator: The generator of `run` that makes the images; None for the baselines.
        out: Where its SR images go.
        pictured: How many images, from the first on, get a row of the comparison picture.
        cpus: CPU cores that the task may use.
        gpus: GPUs that the task may use.
    """

    benchmark: Benchmark
    run: TrainingRun | None
    generator: GeneratorFile | None
    out: Storage
    pictured: int
    cpus: int
    gpus: int


class ScoredImage(NamedTuple):
    """An image's scores and, if wanted, its row of the comparison picture."""

    scores: list[ImageScore]
    row: Image | None


def score_images(task: ScoreTask) -> list[ScoredImage]:
    """Scores a task's images by nearest, bicubic and HR, or by its generator.

    A generator's SR images are written to `sr/<generator>/<image>.png`.

    Raises:
        UserError: If the generator cannot be used, or images cannot: with a line for each; if
            TensorFlow does not see the task's GPUs.
    """
    use_devices(cpus=task.cpus, gpus=task.gpus)
    network = _network_of(task)
    scored: list[ScoredImage] = []
    problems: list[str] = []
    for number in range(len(task.benchmark.hr)):
        try:
            scored.append(_score_image(task, network, number))
        except UserError as error:
            problems.extend(error.problems)
    if problems:
        raise UserError(*problems)
    return scored


def sr_key(generator: str, image: str) -> str:
    """Key of an SR image in an evaluation."""
    return f"sr/{generator}/{image}.png"


def _score_image(task: ScoreTask, network: "keras.Model | None", number: int) -> ScoredImage:
    pair = task.benchmark.pair(number)
    kernel, generator = task.benchmark.kernel, task.generator
    generated: dict[str, Image] = {}
    if generator and network:
        sr = upscale_pair(network, pair)
        task.out.write(sr_key(generator.name, pair.name), encode_png(sr))
        generated[generator.method] = sr
    epoch = generator.epoch if generator else None
    scores = [
        ImageScore(epoch, method, pair.name, _measure(task, pair, image))
        for method, image in (generated or baselines(pair, kernel) | {HR: pair.hr}).items()
    ]
    if number >= task.pictured:
        return ScoredImage(scores, None)
    titled = {TITLES[method]: image for method, image in generated.items()}
    return ScoredImage(scores, labelled_row(detail_panels(pair, kernel, titled)))


def _measure(task: ScoreTask, pair: Pair, image: Image) -> Values:
    extractors = run_extractors(task.run.storage.uri, task.run.extractors) if task.run else {}
    return {
        **score_pair(pair, image)._asdict(),
        "lr_psnr": lr_consistency(pair, image, task.benchmark.kernel),
        **vgg_distances(pair.hr, image, extractors),
        **iqa_values(pair.hr, image),
    }


def _network_of(task: ScoreTask) -> "keras.Model | None":
    """The task's generator, with its weights.

    All tasks of a process share one network, whose graphs are compiled once for each image size.
    """
    if not (task.run and task.generator):
        return None
    settings, scale = task.run.config.generator, task.benchmark.scale
    weights = _weights(task.run.storage.uri, task.generator, settings, scale)
    network = _network(settings, scale)
    network.set_weights(weights)
    return network


@lru_cache(maxsize=1)
def _network(settings: GeneratorConfig, scale: int) -> "keras.Model":
    from srgan.networks import generator

    return generator(scale=scale, **settings.model_dump())


@lru_cache(maxsize=1)
def _weights(run_uri: str, file: GeneratorFile, settings: GeneratorConfig, scale: int) -> list[Any]:
    """A generator's weights. Raises UserError if it is not of RUN's configuration."""
    from srgan.generator_file import architecture, load_generator

    run = open_storage(run_uri)
    stored = load_generator(run, file.key, sha256=file.sha256)
    if architecture(stored) != architecture(_network(settings, scale)):
        raise UserError(
            f"{run.uri}/{file.key}: is not the generator of {CONFIG_KEY} for images x{scale}; put "
            "back the file that jobs.train wrote, or pass images of its scale"
        )
    return list(stored.get_weights())
