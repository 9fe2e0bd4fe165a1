"""Scores what has no scores yet, on the cluster."""

import logging
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import ray

from data_pipeline.images import encode_png
from data_pipeline.platform.cluster import ray_session
from data_pipeline.platform.errors import JobFailedError, UserError
from data_pipeline.platform.fanout import TaskFailedError, fan_out_unordered
from data_pipeline.platform.storage import Storage
from srgan.evaluation.benchmark import Benchmark
from srgan.evaluation.comparison import comparison_picture
from srgan.evaluation.run_reader import SourceRun
from srgan.evaluation.score_files import BASELINES, ScoreSet, write_score_set
from srgan.evaluation.score_task import (
    BadInput,
    GeneratorFile,
    ImageResult,
    Result,
    ScoreTask,
    score_baselines,
    score_generator,
)

_PICTURE_ROWS = 4
_CPUS = 4  # of a task with a network, where no GPU is free
_IMAGES_ON_A_GPU = 25  # of a task, whose process starts anew
# Full float32: with TF32 the scores would depend on whether a GPU was free. The variables also
# keep the process apart from those that run TensorFlow on the CPU.
_GPU_ENVIRONMENT = {"NVIDIA_TF32_OVERRIDE": "0"}
_SHOWN_PROBLEMS = 5

_log = logging.getLogger(__name__)


class Evaluation(NamedTuple):
    """What is scored, how, and where the scores go.

    Attributes:
        benchmark: The images.
        protocol: How the scores are made, kept with them.
        run: Whose generators; None for the baselines alone.
        out: Where the scores and pictures go.
    """

    benchmark: Benchmark
    protocol: dict[str, Any]
    run: SourceRun | None
    out: Storage


def score_missing(
    evaluation: Evaluation, generators: Sequence[GeneratorFile], *, with_baselines: bool
) -> None:
    """Scores the baselines, if wanted, and generators. A generator's scores are written at once.

    Raises:
        UserError: If an image or a generator cannot be used; the other generators are scored.
        JobFailedError: If workers fail again and again.
    """
    run = evaluation.run
    with ray_session():
        room = _room()
        if with_baselines:
            baselines = _Open(ScoreSet(BASELINES, evaluation.protocol, "", []), "comparison.png")
            cpus = room.cpus if run and run.extractors else 1  # VGG is a network too
            _score(evaluation, [baselines], score_baselines, [()], _Room(cpus, 0))
        if generators:
            assert run
            sets = [
                _Open(
                    ScoreSet(one.name, evaluation.protocol, one.sha256, []),
                    f"comparison/{one.name}.png",
                )
                for one in generators
            ]
            more = [(one, run.config_text, evaluation.out.uri) for one in generators]
            _score(evaluation, sets, score_generator, more, room)


class _Room(NamedTuple):
    """What a task with a network takes of the cluster."""

    cpus: int
    gpus: int


class _Open:
    """A score set that is being filled."""

    def __init__(self, scores: ScoreSet, picture: str) -> None:
        self.scores, self.picture = scores, picture
        self.results: dict[int, ImageResult] = {}
        self.is_written = False

    def write(self, out: Storage) -> None:
        """Writes the picture and the scores of all images."""
        results = [self.results[number] for number in sorted(self.results)]
        rows = [result.row for result in results if result.row is not None]
        out.write(self.picture, encode_png(comparison_picture(rows)))
        scores = [score for result in results for score in result.scores]
        write_score_set(out, self.scores._replace(scores=scores))
        self.results.clear()  # the rows of many generators would fill the memory
        self.is_written = True


def _score(
    evaluation: Evaluation,
    sets: Sequence[_Open],
    function: Callable[..., list[Result]],
    more_arguments: Sequence[tuple[Any, ...]],
    room: _Room,
) -> None:
    """Every set's images by calls of a function, with the set's further arguments."""
    benchmark, run = evaluation.benchmark, evaluation.run
    count = len(benchmark.hr)
    in_a_task = _IMAGES_ON_A_GPU if room.gpus else 1
    starts = range(0, count, in_a_task)
    arguments = (
        (
            ScoreTask(
                benchmark=benchmark.part(start, in_a_task),
                run_uri=run.storage.uri if run else "",
                extractors=run.extractors if run else (),
                pictured=max(0, _PICTURE_ROWS - start),
                cpus=room.cpus,
                gpus=room.gpus,
            ),
            *more,
        )
        for more in more_arguments
        for start in starts
    )
    bad, failed = [], []
    for place, results in fan_out_unordered(
        function,
        arguments,
        total=len(sets) * len(starts),
        label="evaluate" if function is score_generator else "evaluate baselines",
        unit="images" if in_a_task == 1 else f"times {in_a_task} images",
        cpus=room.cpus,
        gpus=room.gpus,
        environment=_GPU_ENVIRONMENT if room.gpus else None,
    ):
        one, start = sets[place // len(starts)], starts[place % len(starts)]
        if isinstance(results, TaskFailedError):
            failed.append(str(results))
            continue
        if isinstance(results, UserError):
            bad.append(str(results))
            continue
        for number, result in enumerate(results, start):
            if isinstance(result, BadInput):
                bad.append(result.message)
            else:
                one.results[number] = result
        if len(one.results) == count:
            one.write(evaluation.out)
    if bad:
        raise UserError(_summary(bad + failed))
    if not all(one.is_written for one in sets):
        raise JobFailedError(_summary(failed))


def _room() -> _Room:
    """A GPU that is free now, else some cores of a node."""
    if ray.available_resources().get("GPU", 0) >= 1:
        return _Room(1, 1)
    if ray.cluster_resources().get("GPU", 0):
        _log.warning("no GPU of the cluster is free: scoring on its CPUs")
    cpus = max(node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"])
    return _Room(max(1, min(_CPUS, int(cpus))), 0)


def _summary(messages: Sequence[str]) -> str:
    """Different messages in one line."""
    different = sorted(set(messages))
    shown = "; ".join(different[:_SHOWN_PROBLEMS])
    left = len(different) - _SHOWN_PROBLEMS
    return f"{shown}; and {left} more" if left > 0 else shown
