"""The best epoch of an evaluation, by a measure that the user names."""

import datetime
import logging

from data_pipeline.platform.errors import UserError
from srgan.best import Best, best_epoch, write_best
from srgan.evaluation.benchmark import Benchmark
from srgan.evaluation.measures import MEASURES
from srgan.evaluation.results import RunEvaluation
from srgan.evaluation.run_reader import generator_name
from srgan.evaluation.table import SRGAN, SRRESNET, epochs_of, images_left_out
from srgan.run_layout import BEST_KEY

_FIX = {
    "niqe": 'pip install ".[perceptual]", then pass another --out',
    "vgg22": "it needs a run that was trained with vgg22",
    "vgg54": "it needs a run that was trained with vgg54",
}

_log = logging.getLogger(__name__)


def choose_best(evaluation: RunEvaluation, benchmark: Benchmark, measure: str) -> None:
    """Writes `best.json` of a RUN: the best of its epochs by their means of a measure.

    All means are over the same images. SRResNet has no epoch and is not chosen.

    Args:
        evaluation: With its scores.
        benchmark: The images.
        measure: One of `BEST_BY`.

    Raises:
        UserError: If no epoch is scored, or the measure was not taken.
    """
    run = evaluation.run
    assert run  # the command requires --run
    epochs = epochs_of(evaluation.means)
    if not epochs:
        raise UserError(f"--best-by {measure}: {run.storage.uri} has no epoch with scores yet")
    means = {
        epoch: values[measure]
        for epoch in epochs
        if measure in (values := evaluation.means[SRGAN, epoch])
    }
    if not means:
        fix = _FIX.get(measure, "the images are too small for it; choose another measure")
        raise UserError(f"--best-by {measure}: not measured in {evaluation.out.uri}; {fix}")
    (about,) = (one for one in MEASURES if one.key == measure)
    epoch = best_epoch(means, higher_is_better=about.higher_is_better)
    scores = [score for file in evaluation.files.values() for score in file.scores]
    now = datetime.datetime.now(datetime.timezone.utc)
    best = Best(
        epoch=epoch,
        sha256=evaluation.files[generator_name(epoch)].generator_sha256,
        measure=measure,
        value=means[epoch],
        unit=about.unit,
        data=benchmark.name,
        images=len(benchmark.hr),
        left_out=len(images_left_out(scores).get(measure, ())),
        of_epochs=means,
        written=f"{now:%Y-%m-%dT%H:%M:%SZ}",
    )
    write_best(run.storage, best)
    _log.info(
        "best of %d epochs by %s: epoch %d, %.*f; written to %s/%s",
        len(means),
        measure,
        epoch,
        about.digits,
        means[epoch],
        run.storage.uri,
        BEST_KEY,
    )
    before = evaluation.means.get((SRRESNET, None), {}).get(measure)
    if before is not None and (before > means[epoch]) == about.higher_is_better:
        _log.info("SRResNet has a better %s; it has no epoch and is not chosen", about.title)
