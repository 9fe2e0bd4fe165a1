"""One task of an evaluation: a worker of the cluster scores some images.

The images are made by the baselines or by a generator. Networks are imported where they are used:
the baselines need none.
"""

from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from data_pipeline.images import Image, encode_png
from data_pipeline.pairs import lr_psnr
from data_pipeline.platform.devices import use_devices
from data_pipeline.platform.errors import UserError
from data_pipeline.platform.logs import configure_logging
from data_pipeline.platform.storage import Storage, open_storage
from srgan.config import GeneratorConfig
from srgan.evaluation.benchmark import (
    Benchmark,
    Pair,
    baselines,
    score_pair,
    upscale_pair,
)
from srgan.evaluation.comparison import detail_panels, labelled_row
from srgan.evaluation.grid import grid
from srgan.evaluation.measures import Values, taken
from srgan.evaluation.perceptual import lpips_value, niqe_value, run_extractors, vgg_distances
from srgan.evaluation.run_reader import GeneratorFile, TrainingRun
from srgan.evaluation.table import HR, ImageScore, method_title
from srgan.run_layout import CONFIG_KEY

if TYPE_CHECKING:
    import keras


class ScoreTask(NamedTuple):
    """An image to score.

    Attributes:
        benchmark: This image alone.
        run: The RUN of the generator and of the VGG weights that measure; None for the baselines
            alone.
        generator: The generator of `run` that makes the image; None for the baselines.
        out: Where the SR image goes.
        is_pictured: Whether the image gets a row of the comparison picture.
        cpus: CPU cores that a process may use.
    """

    benchmark: Benchmark
    run: TrainingRun | None
    generator: GeneratorFile | None
    out: Storage
    is_pictured: bool
    cpus: int


class Made(NamedTuple):
    """What the baselines or a generator make of a pair, by method. HR is one of the baselines.

    Attributes:
        images: uint8, of HR's shape.
        values: The measures by networks, and of the generator itself.
    """

    images: dict[str, Image]
    values: dict[str, Values]


class ScoredImage(NamedTuple):
    """An image's scores, its row of the comparison picture if wanted, and any doubt of its LR."""

    scores: list[ImageScore]
    row: Image | None
    doubt: str | None


def score_image(task: ScoreTask) -> ScoredImage:
    """Scores an image by nearest, bicubic and HR, or by the task's generator, in one process.

    A generator's SR image is written to `sr/<generator>/<image>.png`.

    Raises:
        UserError: If the generator or the image cannot be used.
    """
    pair = load_pair(task)
    return score_made(task, pair, make(task, pair))


def load_pair(task: ScoreTask) -> Pair:
    """The task's image, without a network. Raises UserError if it cannot be used."""
    use_devices(cpus=task.cpus, gpus=0)
    return task.benchmark.pair(0)


class GpuMaker:
    """A process with a GPU of its own, which runs the networks of one task after the other."""

    def __init__(self) -> None:
        configure_logging()

    def make(self, task: ScoreTask, pair: Pair) -> Made:
        """As `make`, on the GPU. Raises UserError also if TensorFlow does not see the GPU."""
        use_devices(cpus=task.cpus, gpus=1)
        return make(task, pair)


def make(task: ScoreTask, pair: Pair) -> Made:
    """All that needs a network: SR of the generator and its size, LPIPS and VGG distances.

    Raises:
        UserError: If the generator cannot be used.
    """
    size: Values = {}
    if network := _network_of(task):
        assert task.generator
        images = {task.generator.method: upscale_pair(network, pair)}
        size = _size(network, pair.scale)
    else:
        images = baselines(pair, task.benchmark.kernel) | {HR: pair.hr}
    extractors = run_extractors(task.run.storage.uri, task.run.extractors) if task.run else {}
    values = {
        method: lpips_value(pair.hr, image, border=pair.scale)
        | vgg_distances(pair.hr, image, extractors)
        | size
        for method, image in images.items()
    }
    return Made(images, values)


def score_made(task: ScoreTask, pair: Pair, made: Made) -> ScoredImage:
    """All other measures, the picture and the file, without a network."""
    use_devices(cpus=task.cpus, gpus=0)
    kernel, generator = task.benchmark.kernel, task.generator
    if generator:
        sr = made.images[generator.method]
        task.out.write(sr_key(generator.name, pair.name), encode_png(sr))
    scores = []
    for method, image in made.images.items():
        values = {
            **score_pair(pair, image)._asdict(),
            "lr_psnr": lr_psnr(image, pair.lr, pair.scale, kernel),
            **taken(grid=grid(pair.hr, image, scale=pair.scale)),
            **made.values[method],
            **niqe_value(image),
        }
        epoch = generator.epoch if generator else None
        scores.append(ImageScore(epoch, method, pair.name, values))
    if not task.is_pictured:
        return ScoredImage(scores, None, pair.doubt)
    titled = {}
    if task.run and generator:
        title = method_title(generator.method, is_gan=task.run.config.trains_discriminator)
        titled[title] = sr
    row = labelled_row(detail_panels(pair, kernel, titled))
    return ScoredImage(scores, row, pair.doubt)


def sr_key(generator: str, image: str) -> str:
    """Key of an SR image in an evaluation."""
    return f"sr/{generator}/{image}.png"


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
def _size(network: "keras.Model", scale: int) -> Values:
    """A generator's parameters and FLOPs."""
    from srgan.flops import upscaling_gflops

    gflops = upscaling_gflops(network, scale)
    return {"parameters": network.count_params() / 1e6, "gflops": gflops}


@lru_cache(maxsize=1)
def _weights(run_uri: str, file: GeneratorFile, settings: GeneratorConfig, scale: int) -> list[Any]:
    """A generator's weights. Raises UserError if it is not of RUN's configuration."""
    from srgan.generator_file import architecture, read_generator

    run = open_storage(run_uri)
    stored = read_generator(run, file.key, sha256=file.sha256)
    if architecture(stored) != architecture(_network(settings, scale)):
        raise UserError(
            f"{run.uri}/{file.key}: is not the generator of {CONFIG_KEY} for images x{scale}; put "
            "back the file that jobs.train wrote"
        )
    return list(stored.get_weights())
