"""Scores on the cluster what has no scores yet."""

import datetime
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import ray

from data_pipeline.images import encode_png
from data_pipeline.platform.cluster import ray_session
from data_pipeline.platform.errors import JobFailedError, UserError
from data_pipeline.platform.fanout import (
    TaskFailedError,
    as_task,
    fan_out_unordered,
    largest_node,
    on_gpus,
)
from data_pipeline.platform.storage import Storage
from srgan.evaluation.benchmark import Benchmark
from srgan.evaluation.comparison import stack_rows
from srgan.evaluation.run_reader import GeneratorFile, TrainingRun
from srgan.evaluation.score_files import BASELINES, ScoreFile, write_score_file
from srgan.evaluation.score_task import (
    GpuMaker,
    ScoredImage,
    ScoreTask,
    load_pair,
    score_image,
    score_made,
)

_PICTURE_ROWS = 4
_CPUS = 4  # of a task with a network, if no GPU is free
_SHOWN_PROBLEMS = 5

_log = logging.getLogger(__name__)


def score_missing(
    benchmark: Benchmark,
    run: TrainingRun | None,
    out: Storage,
    protocol: dict[str, Any],
    generators: Sequence[GeneratorFile],
    *,
    with_baselines: bool,
) -> None:
    """Scores generators, and the baselines if wanted; writes the scores of each when it is done.

    Args:
        benchmark: The images.
        run: The RUN of the generators; None for the baselines alone.
        out: Where scores and pictures go.
        protocol: How the scores are made; stored with them.
        generators: The generators to score; may be empty.
        with_baselines: Whether to score the baselines.

    Raises:
        UserError: If images or generators cannot be used; the other generators are scored.
        JobFailedError: If workers fail again and again.
    """
    with ray_session():
        if with_baselines:
            # As many cores as for a generator: its tasks get the same processes, and TensorFlow
            # keeps the threads that it began with.
            task = ScoreTask(benchmark, run, None, out, False, _cpus())
            _score(task, [None], protocol, as_task(score_image, cpus=task.cpus))
        if generators:
            task = ScoreTask(benchmark, run, None, out, False, 1)
            images = len(generators) * len(benchmark.hr)
            if gpus := min(images, int(ray.available_resources().get("GPU", 0))):
                _score(task, generators, protocol, _through_gpus(gpus))
                return
            if ray.cluster_resources().get("GPU", 0):
                _log.warning("no GPU of the cluster is free: scoring on its CPUs")
            task = task._replace(cpus=_cpus())
            _score(task, generators, protocol, as_task(score_image, cpus=task.cpus))


def _through_gpus(gpus: int) -> Callable[[ScoreTask], Any]:
    """What submits a task in three parts: CPU, then GPU, then CPU again.

    The processes on GPUs decode and measure nothing, for that takes many times as long as their
    networks.

    Args:
        gpus: How many GPUs.
    """
    make = on_gpus(GpuMaker, "make", gpus=gpus)
    load, score = as_task(load_pair), as_task(score_made)

    def submit(task: ScoreTask) -> Any:
        pair = load(task)
        return score(task, pair, make(task, pair))

    return submit


def _score(
    whole: ScoreTask,
    generators: Sequence[GeneratorFile | None],
    protocol: dict[str, Any],
    submit: Callable[[ScoreTask], Any],
) -> None:
    """Scores all images by each generator, in tasks that are parts of `whole`.

    None stands for the baselines.
    """
    count = len(whole.benchmark.hr)
    tasks = (
        whole._replace(
            benchmark=whole.benchmark.part(number, 1),
            generator=generator,
            is_pictured=number < _PICTURE_ROWS,
        )
        for generator in generators
        for number in range(count)
    )
    scored: list[dict[int, ScoredImage]] = [{} for _ in generators]
    unusable: list[str] = []
    failed: list[str] = []
    doubts: set[str] = set()
    for number, result in fan_out_unordered(
        submit,
        ((task,) for task in tasks),
        total=len(generators) * count,
        label="evaluate" if any(generators) else "evaluate baselines",
        unit="images",
        cpus=whole.cpus,
    ):
        which, image = divmod(number, count)
        if isinstance(result, UserError):
            unusable += result.problems
        elif isinstance(result, TaskFailedError):
            failed.append(str(result))
        else:
            if result.doubt:
                doubts.add(result.doubt)
            scored[which][image] = result
            if len(scored[which]) == count:
                images = [one for _, one in sorted(scored[which].items())]
                _write(whole.out, generators[which], protocol, images)
                scored[which].clear()  # the pictures of many generators would fill the memory
    if doubts:
        _log.warning(
            "%d LR file(s) may not be of their HR image: %s", len(doubts), _summary(doubts)
        )
    if unusable:
        raise UserError(_summary(unusable + failed))
    if failed:
        raise JobFailedError(_summary(failed))


def _write(
    out: Storage,
    generator: GeneratorFile | None,
    protocol: dict[str, Any],
    images: Sequence[ScoredImage],
) -> None:
    """Writes the picture, and then the scores: a generator that has scores is done."""
    name = generator.name if generator else BASELINES
    picture = f"comparison/{name}.png" if generator else "comparison.png"
    out.write(picture, encode_png(stack_rows([one.row for one in images if one.row is not None])))
    scores = [score for image in images for score in image.scores]
    sha256 = generator.sha256 if generator else ""
    scored = f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%dT%H:%M:%SZ}"
    write_score_file(out, ScoreFile(name, protocol, sha256, scores, scored))


def _cpus() -> int:
    """Cores of a task with a network on the CPU."""
    return max(1, min(_CPUS, largest_node()))


def _summary(messages: Iterable[str]) -> str:
    """Different messages in one line."""
    different = sorted(set(messages))
    shown = "; ".join(different[:_SHOWN_PROBLEMS])
    left = len(different) - _SHOWN_PROBLEMS
    return f"{shown}; and {left} more" if left > 0 else shown
