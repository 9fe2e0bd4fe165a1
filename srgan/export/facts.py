"""What a RUN says of one of its generators: for the export's files and for the model card."""

import json
import logging
import re
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from data_pipeline.manifest import Manifest, read_manifest
from data_pipeline.platform.errors import JobFailedError, UserError
from data_pipeline.platform.storage import Storage, open_storage
from data_pipeline.prepare.div2k import LICENCE
from data_pipeline.prepare.sources import DIV2K, SAMPLES
from srgan.best import read_best
from srgan.evaluation.measures import MEASURES, Values
from srgan.evaluation.run_reader import TrainingRun
from srgan.evaluation.score_files import BASELINES, read_score_files
from srgan.evaluation.table import BICUBIC, images_left_out, mean_values
from srgan.export.graph import Op, operations
from srgan.flops import upscaling_gflops
from srgan.run_layout import BEST_KEY, DATASET_KEY
from srgan.trained import TrainedGenerator

_SCORE_FILE = re.compile(r"(evaluation/[^/]+)/scores/[^/]+\.parquet")

# What is said of the images of a source, and where.
_LICENCES = {
    DIV2K: (LICENCE, "https://data.vision.ee.ethz.ch/cvl/DIV2K/"),
    SAMPLES: (
        "photographs that ship with scikit-image; its documentation says who made each, and which "
        "licence it has",
        "https://scikit-image.org/docs/stable/api/skimage.data.html",
    ),
}

_log = logging.getLogger(__name__)


class DataSet(NamedTuple):
    """What the generator was trained on.

    Attributes:
        name: `div2k`, `samples`, or the last part of the source's URI; "" if nothing tells it.
        licence: Of its images; "" if it is not known.
        licence_link: Where it stands; likewise.
        images: How many training images; None if nothing tells it.
        kernel: The kernel that made its LR; None for LR files of unknown origin.
        manifest_sha256: Its identity.
    """

    name: str
    licence: str
    licence_link: str
    images: int | None
    kernel: str | None
    manifest_sha256: str


class Scores(NamedTuple):
    """One evaluation of the generator.

    Attributes:
        protocol: How it was made: images, kernel, border, measures.
        generator: The generator's means over the images, by measure.
        bicubic: Those of bicubic, on the same images.
    """

    protocol: dict[str, Any]
    generator: Values
    bicubic: Values


class Facts(NamedTuple):
    """What describes an exported generator, in numbers and text that JSON holds.

    Attributes:
        name: Its name in RUN, as `epoch-0075`.
        sha256: Of its file in RUN.
        scale: How many times it enlarges.
        parameters: Its numbers.
        gflops_per_megapixel: What a megapixel of SR takes, by `upscaling_gflops`.
        megabytes_per_megapixel: Of its largest feature map in float32, for a megapixel of SR.
        radius: How many LR pixels away an input may change an output.
        is_gan: Whether it was trained with a discriminator.
        config: The run's configuration.
        data_set: What it was trained on.
        scores: Every evaluation of it that RUN has.
        best: By what it is RUN's best; "" if it is not, or nobody asked.
    """

    name: str
    sha256: str
    scale: int
    parameters: int
    gflops_per_megapixel: float
    megabytes_per_megapixel: float
    radius: int
    is_gan: bool
    config: dict[str, Any]
    data_set: DataSet
    scores: tuple[Scores, ...]
    best: str

    def as_json(self) -> dict[str, Any]:
        """The same as JSON has it: lists and objects."""
        tuples = {"data_set": self.data_set._asdict(), "scores": [s._asdict() for s in self.scores]}
        plain: dict[str, Any] = json.loads(json.dumps(self._asdict() | tuples))
        return plain


def collect_facts(run: TrainingRun, generator: TrainedGenerator) -> Facts:
    """Reads what describes a generator of RUN.

    Raises:
        UserError: If the network has layers that cannot be exported, or a score file is damaged.
    """
    ops = operations(generator.model)
    return Facts(
        name=generator.name,
        sha256=generator.sha256,
        scale=generator.scale,
        parameters=generator.model.count_params(),
        gflops_per_megapixel=round(upscaling_gflops(generator.model, generator.scale), 1),
        megabytes_per_megapixel=round(largest_map(ops) * 4 / generator.scale**2, 1),
        radius=radius(ops),
        is_gan=run.config.trains_discriminator,
        config=run.config.model_dump(mode="json"),
        data_set=_data_set(run),
        scores=_scores(run.storage, generator.sha256),
        best=_best(run.storage, generator.sha256),
    )


def radius(ops: list[Op]) -> int:
    """How many LR pixels around it an SR pixel depends on: of all convolutions together."""
    reach, size = 0.0, 1
    for op in ops:
        if op.kind == "conv":
            reach += op.weights[0].shape[0] // 2 / size
        elif op.kind == "pixel_shuffle":
            size *= op.factor
    return -int(-reach // 1)


def largest_map(ops: list[Op]) -> int:
    """Numbers of the largest feature map, for each LR pixel."""
    size, largest = 1, 0
    for op in ops:
        if op.kind == "conv":
            largest = max(largest, size**2 * op.weights[0].shape[-1])
        elif op.kind == "pixel_shuffle":
            size *= op.factor
    return largest


def _data_set(run: TrainingRun) -> DataSet:
    """It may be gone, or be another one by now: then only RUN's own notes are left."""
    sha256 = json.loads(run.storage.read(DATASET_KEY))["manifest_sha256"]
    manifest: Manifest | None = None
    try:
        manifest = read_manifest(open_storage(run.data_uri))
    except (UserError, JobFailedError, OSError) as error:
        _log.info("%s: does not read: %s", run.data_uri, error)
    if manifest is None or manifest.sha256() != sha256:
        _log.warning(
            "%s: is gone or another one now; the model card cannot name the training images",
            run.data_uri,
        )
        return DataSet("", "", "", None, run.kernel, sha256)
    source = manifest.settings.source
    licence, link = _LICENCES.get(source, ("", ""))
    return DataSet(
        name=PurePosixPath(source).name,
        licence=licence,
        licence_link=link,
        images=sum(len(shard.images) for shard in manifest.shards),
        kernel=run.kernel,
        manifest_sha256=sha256,
    )


def _best(run: Storage, sha256: str) -> str:
    if run.size(BEST_KEY) is None or (best := read_best(run)).sha256 != sha256:
        return ""
    title = {one.key: one.title for one in MEASURES}.get(best.measure, best.measure)
    value = f"{best.value:.4g} {best.unit}".rstrip()
    return f"{title} ({value} on {best.data}; epochs compared: {len(best.of_epochs)})"


def _scores(run: Storage, sha256: str) -> tuple[Scores, ...]:
    """The evaluations in RUN that have scored the generator with this sha256."""
    found = (_SCORE_FILE.fullmatch(one.key) for one in run.list("evaluation/"))
    scores = []
    for folder in sorted({match[1] for match in found if match}):
        files = read_score_files(open_storage(f"{run.uri}/{folder}"))
        ours = next((one for one in files.values() if one.generator_sha256 == sha256), None)
        if ours is None or BASELINES not in files:
            continue
        rows = [*ours.scores, *files[BASELINES].scores]
        means = mean_values(rows, images_left_out(rows))
        method, epoch = ours.scores[0].method, ours.scores[0].epoch
        scores.append(Scores(ours.protocol, means[method, epoch], means[BICUBIC, None]))
    return tuple(scores)
