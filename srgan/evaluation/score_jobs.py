"""Scores on the cluster what has no scores yet."""

import logging
from collections.abc import Sequence
from typing import Any

import ray

from data_pipeline.images import encode_png
from data_pipeline.platform.cluster import ray_session
from data_pipeline.platform.errors import JobFailedError, UserError
from data_pipeline.platform.fanout import TaskFailedError, fan_out_unordered
from data_pipeline.platform.storage import Storage
from srgan.evaluation.benchmark import Benchmark
from srgan.evaluation.comparison import stack_rows
from srgan.evaluation.run_reader import GeneratorFile, TrainingRun
from srgan.evaluation.score_files import BASELINES, ScoreFile, write_score_file
from srgan.evaluation.score_task import ScoredImage, ScoreTask, score_images

_PICTURE_ROWS = 4
_CPUS = 4  # of a task with a network, if no GPU is free
_IMAGES_ON_A_GPU = 25  # in a task, because every task on a GPU starts a process
# Full float32: with TF32 the scores would depend on whether a GPU was free. The variable also
# gives these tasks processes of their own, apart from those that run TensorFlow on the CPU.
_GPU_ENVIRONMENT = {"NVIDIA_TF32_OVERRIDE": "0"}
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
        cpus, gpus = _cpus_and_gpus()
        whole = ScoreTask(benchmark, run, None, out, _PICTURE_ROWS, cpus, gpus)
        if with_baselines:
            has_network = run and run.extractors  # VGG
            _score(whole._replace(cpus=cpus if has_network else 1, gpus=0), [None], protocol)
        if generators:
            _score(whole, generators, protocol)


def _score(
    whole: ScoreTask, generators: Sequence[GeneratorFile | None], protocol: dict[str, Any]
) -> None:
    """Scores all images by each generator, in tasks that are parts of `whole`.

    None stands for the baselines.
    """
    in_a_task = _IMAGES_ON_A_GPU if whole.gpus else 1
    starts = range(0, len(whole.benchmark.hr), in_a_task)
    tasks = (
        whole._replace(
            benchmark=whole.benchmark.part(start, in_a_task),
            generator=generator,
            pictured=max(0, whole.pictured - start),
        )
        for generator in generators
        for start in starts
    )
    scored: list[dict[int, list[ScoredImage]]] = [{} for _ in generators]
    unusable: list[str] = []
    failed: list[str] = []
    for number, result in fan_out_unordered(
        score_images,
        ((task,) for task in tasks),
        total=len(generators) * len(starts),
        label="evaluate" if any(generators) else "evaluate baselines",
        unit="images" if in_a_task == 1 else f"times {in_a_task} images",
        cpus=whole.cpus,
        gpus=whole.gpus,
        environment=_GPU_ENVIRONMENT if whole.gpus else None,
    ):
        which, part = divmod(number, len(starts))
        if isinstance(result, UserError):
            unusable += result.problems
        elif isinstance(result, TaskFailedError):
            failed.append(str(result))
        else:
            scored[which][part] = result
            if len(scored[which]) == len(starts):
                images = [image for _, some in sorted(scored[which].items()) for image in some]
                _write(whole.out, generators[which], protocol, images)
                scored[which].clear()  # the pictures of many generators would fill the memory
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
    write_score_file(out, ScoreFile(name, protocol, generator.sha256 if generator else "", scores))


def _cpus_and_gpus() -> tuple[int, int]:
    """What a task with a network takes: a GPU that is free now, else some cores of a node."""
    if ray.available_resources().get("GPU", 0) >= 1:
        return 1, 1
    if ray.cluster_resources().get("GPU", 0):
        _log.warning("no GPU of the cluster is free: scoring on its CPUs")
    cpus = max(node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"])
    return max(1, min(_CPUS, int(cpus))), 0


def _summary(messages: Sequence[str]) -> str:
    """Different messages in one line."""
    different = sorted(set(messages))
    shown = "; ".join(different[:_SHOWN_PROBLEMS])
    left = len(different) - _SHOWN_PROBLEMS
    return f"{shown}; and {left} more" if left > 0 else shown
