"""An evaluation: scores what is new, then writes tables, report and history."""

import datetime
import logging
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from data_pipeline.platform.errors import JobFailedError, UserError, differences
from data_pipeline.platform.storage import open_storage
from srgan.evaluation.alerts import Limit, find_alerts
from srgan.evaluation.benchmark import Benchmark
from srgan.evaluation.history import write_record
from srgan.evaluation.results import Evaluated, Subject, write_comparison, write_results
from srgan.evaluation.run_reader import find_generators, open_run
from srgan.evaluation.score_files import BASELINES, read_score_sets
from srgan.evaluation.score_jobs import Evaluation, score_missing
from srgan.evaluation.table import epochs_of
from srgan.metrics_log import read_metrics

_log = logging.getLogger(__name__)


class Limits(NamedTuple):
    """What makes an evaluation fail, see `find_alerts`; `reference` is a RUN to compare with."""

    below: Sequence[Limit] = ()
    drop: Sequence[Limit] = ()
    reference: str | None = None


class EvaluationResult(NamedTuple):
    """Where the results are, the table in Markdown, and a line for every limit that is broken."""

    uri: str
    table: str
    alerts: list[str]


def evaluate(
    benchmark: Benchmark,
    *,
    run_uri: str | None,
    out_uri: str | None,
    epochs: Sequence[int] | None,
    compare: Sequence[str] = (),
    limits: Limits | None = None,
) -> EvaluationResult:
    """Scores what has no scores yet, and writes tables and a report of everything.

    Args:
        benchmark: The images.
        run_uri: RUN whose generators to score; None scores the baselines alone.
        out_uri: Where the results go; None means RUN/evaluation/<benchmark's name>.
        epochs: Epochs to score; None means all that RUN has.
        compare: Other RUNs, which are scored likewise and put into one table and report with the
            first. Their results go to their own RUN/evaluation, or below `out_uri`.
        limits: What to alert of, in the log too, after everything is written.

    Returns:
        What was found.

    Raises:
        UserError: If an image, a generator or an epoch is missing or wrong, or the results there
            were made by another protocol. What could be scored is kept, in the tables, and judged.
        JobFailedError: If workers fail again and again; likewise.
    """
    if out_uri is None and run_uri is None:
        raise UserError("--out is missing: without --run there is no other place for the results")
    limits = limits or Limits()
    benchmark = benchmark.with_sha256()
    subjects = [
        _subject(uri, _place(benchmark, uri, out_uri, is_first=number == 0))
        for number, uri in enumerate([run_uri, *compare])
    ]
    if len({one.out.uri for one in subjects}) < len(subjects):
        raise UserError("--compare: names a run twice; pass different ones")
    reference = None
    if limits.reference:
        place = _place(benchmark, limits.reference, out_uri, is_first=False)
        reference = _subject(limits.reference, place)
    for one in subjects:
        _check_epochs(one, epochs)
    first, problem = _evaluate_one(benchmark, subjects[0], epochs)
    alerts = []
    if run_uri:
        other = None
        if reference:
            newest = [one.epoch for one in reference.generators.values() if one.epoch][-1:]
            other, other_problem = _evaluate_one(benchmark, reference, newest)
            problem = problem or other_problem
        alerts = _judge(first, epochs, limits, other)
    if problem:
        raise problem
    out = first.subject.out
    if not compare:
        return EvaluationResult(out.uri, out.read("psnr.md").decode(), alerts)
    evaluated = [first]
    for one in subjects[1:]:
        another, problem = _evaluate_one(benchmark, one, epochs)
        if problem:
            raise problem
        evaluated.append(another)
    table = write_comparison(_distinct(evaluated), benchmark, benchmark.protocol())
    return EvaluationResult(f"{out.uri}/compare", table, alerts)


def _judge(
    judged: Evaluated, epochs: Sequence[int] | None, limits: Limits, other: Evaluated | None
) -> list[str]:
    """Judges the newest epoch, of those asked for, and adds it to the history."""
    scored = epochs_of(judged.means)
    epoch = max((one for one in scored if not epochs or one in epochs), default=None)
    alerts = find_alerts(
        judged.means,
        epoch=epoch,
        below=limits.below,
        drop=limits.drop,
        reference=other.scored if other else None,
    )
    for alert in alerts:
        _log.warning("alert: %s", alert)
    now = datetime.datetime.now(datetime.timezone.utc)
    write_record(judged.subject.out, now, judged.means, epoch=epoch, alerts=alerts)
    return alerts


def _place(benchmark: Benchmark, uri: str | None, out_uri: str | None, *, is_first: bool) -> str:
    """Where a run's results go."""
    if out_uri is None:
        return f"{open_storage(str(uri)).uri}/evaluation/{benchmark.name}"
    name = PurePosixPath(str(uri)).name
    return out_uri if is_first else f"{open_storage(out_uri).uri}/compare/{name}"


def _subject(uri: str | None, place: str) -> Subject:
    if uri is None:
        return Subject(BASELINES, open_storage(place), None, {}, [])
    run = open_run(uri)
    generators = {one.name: one for one in find_generators(run)}
    name = PurePosixPath(run.storage.uri).name
    return Subject(name, open_storage(place), run, generators, read_metrics(run.storage))


def _check_epochs(subject: Subject, epochs: Sequence[int] | None) -> None:
    stored = [one.epoch for one in subject.generators.values() if one.epoch]
    missing = sorted(set(epochs or ()) - set(stored))
    if missing and subject.run:
        raise UserError(
            f"{subject.run.storage.uri}: holds no generator of epoch {missing[0]}; it has {stored}"
        )


def _evaluate_one(
    benchmark: Benchmark, subject: Subject, epochs: Sequence[int] | None
) -> tuple[Evaluated, UserError | JobFailedError | None]:
    """Scores what is missing and writes the results; returns what could not be scored too."""
    out, run = subject.out, subject.run
    protocol = benchmark.protocol() | {
        "run sha256": run.identity if run else "none",
        "VGG sha256": run.vgg if run else "none",
    }
    out.delete_partial()  # of an evaluation that was killed
    sets = read_score_sets(out)
    for stored in sets.values():
        if stored.protocol != protocol:
            changed = "; ".join(differences(stored.protocol, protocol))
            raise UserError(
                f"{out.uri}: was made by another protocol ({changed}); delete it, or choose "
                "another --out"
            )
    new = []
    for one in subject.generators.values():
        if epochs and one.epoch not in (None, *epochs):
            continue
        if one.name not in sets:
            new.append(one)
        elif sets[one.name].generator != one.sha256:
            _log.info("%s: was written anew since it was scored: scored again", one.key)
            new.append(one)
    if run and not any(one.epoch for one in subject.generators.values()):
        _log.info("%s: no epoch of its last phase is finished yet", run.storage.uri)
    problem: UserError | JobFailedError | None = None
    if new or BASELINES not in sets:
        evaluation = Evaluation(benchmark, protocol, run, out)
        try:
            score_missing(evaluation, new, with_baselines=BASELINES not in sets)
        except (UserError, JobFailedError) as error:
            if BASELINES not in read_score_sets(out):
                raise
            problem = error
    else:
        _log.info("%s: already complete, nothing to score", out.uri)
    return write_results(subject, benchmark, protocol), problem


def _distinct(evaluated: Sequence[Evaluated]) -> list[Evaluated]:
    """Runs of the same name are called by their evaluations' URIs."""
    names = [one.subject.name for one in evaluated]
    return [
        one
        if names.count(one.subject.name) == 1
        else one._replace(subject=one.subject._replace(name=one.subject.out.uri))
        for one in evaluated
    ]
