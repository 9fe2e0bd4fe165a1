"""An evaluation: scores what is new, then writes the tables, the report and the history."""

import logging
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from data_pipeline.platform.errors import JobFailedError, UserError, differences
from data_pipeline.platform.storage import Storage, open_storage
from srgan.evaluation.alerts import Limits
from srgan.evaluation.benchmark import Benchmark
from srgan.evaluation.best_by import choose_best
from srgan.evaluation.measures import MEASURES
from srgan.evaluation.nightly import judge, tell_alerts
from srgan.evaluation.results import COMPARE, RunEvaluation, write_comparison, write_results
from srgan.evaluation.run_reader import TrainingRun, find_generators, open_run
from srgan.evaluation.score_files import BASELINES, ScoreFile, read_score_files
from srgan.evaluation.score_jobs import score_missing
from srgan.evaluation.table import PROTOCOL_TITLE

_log = logging.getLogger(__name__)


class EvaluationSummary(NamedTuple):
    """What an evaluation tells its caller.

    Attributes:
        uri: Where the results are.
        tables: What psnr.md holds before the protocol: verdicts, tables, notes.
        alerts: A line for every limit that is broken and was not told before of this generator.
    """

    uri: str
    tables: str
    alerts: list[str]


def evaluate(
    benchmark: Benchmark,
    *,
    run_uri: str | None,
    out_uri: str | None,
    epochs: Sequence[int] | None,
    compare: Sequence[str] = (),
    limits: Limits | None = None,
    alert_url: str | None = None,
    best_by: str | None = None,
) -> EvaluationSummary:
    """Scores what has no scores yet, and writes the tables and the report of everything.

    Args:
        benchmark: The images.
        run_uri: The RUN whose generators to score; None scores the baselines alone.
        out_uri: Where the results go; None means RUN/evaluation/<benchmark's name>.
        epochs: The epochs to score; None means all that RUN has.
        compare: Other RUNs. They are scored in the same way, and put into one table and one report
            with the first. Their results go to their own RUN/evaluation, or below `out_uri`.
        limits: When to alert, in the result and in the log, after everything is written.
        alert_url: A webhook, which gets the alerts too; see `tell_alerts`.
        best_by: A measure of `BEST_BY`, by which the first run's best epoch is chosen.

    Raises:
        UserError: If an image, a generator or an epoch is missing or wrong, or the results in
            `out_uri` were made by another protocol. What could be scored is kept, is in the
            tables, and is judged. Likewise if `best_by` was not measured. If a run has another
            scale than the images, nothing is scored.
        JobFailedError: If workers fail again and again; what could be scored is kept likewise.
    """
    if out_uri is None and run_uri is None:
        raise UserError("--out is missing: without --run there is no other place for the results")
    limits = limits or Limits()
    benchmark = benchmark.with_sha256()
    evaluations = [
        _open_evaluation(benchmark, uri, out_uri, is_first=number == 0)
        for number, uri in enumerate([run_uri, *compare])
    ]
    if len({one.out.uri for one in evaluations}) < len(evaluations):
        raise UserError("--compare: names a run twice; pass different ones")
    reference = None
    if limits.reference:
        reference = _open_evaluation(benchmark, limits.reference, out_uri, is_first=False)
    for one in filter(None, [*evaluations, reference]):
        _check_scale_and_kernel(benchmark, one.run, is_first=one is evaluations[0])
    for one in evaluations:
        _check_epochs(one, epochs)
    first, problem = _evaluate_one(benchmark, evaluations[0], epochs)
    alerts = []
    if run_uri:
        if reference:
            newest = [one.epoch for one in reference.generators.values() if one.epoch][-1:]
            reference, reference_problem = _evaluate_one(benchmark, reference, newest)
            problem = problem or reference_problem
        epoch, broken = judge(first, epochs, limits, reference)
        alerts = tell_alerts(first, epoch, broken, data_set=benchmark.name, alert_url=alert_url)
    best_problem = _choose_best(first, benchmark, best_by)
    if problem := problem or best_problem:
        raise problem
    if not compare:
        return _summary(first.out, "", alerts)
    evaluated = [first]
    for one in evaluations[1:]:
        another, problem = _evaluate_one(benchmark, one, epochs)
        if problem:
            raise problem
        evaluated.append(another)
    write_comparison(_with_distinct_names(evaluated), benchmark, benchmark.protocol())
    return _summary(first.out, COMPARE, alerts)


def _choose_best(
    evaluation: RunEvaluation, benchmark: Benchmark, best_by: str | None
) -> UserError | None:
    """Writes best.json if it is wanted; returns the error if it cannot be."""
    try:
        if best_by:
            choose_best(evaluation, benchmark, best_by)
    except UserError as error:
        return error
    return None


def _summary(out: Storage, prefix: str, alerts: list[str]) -> EvaluationSummary:
    tables, _, _ = out.read(f"{prefix}psnr.md").decode().partition(f"\n{PROTOCOL_TITLE}\n")
    return EvaluationSummary(f"{out.uri}/{prefix}".rstrip("/"), tables, alerts)


def _open_evaluation(
    benchmark: Benchmark, uri: str | None, out_uri: str | None, *, is_first: bool
) -> RunEvaluation:
    """An evaluation of a RUN, or of the baselines alone, without scores yet.

    The results go to RUN/evaluation, or to `out_uri`; those of other runs than the first go below.
    """
    run = None if uri is None else open_run(uri)
    name = PurePosixPath(run.storage.uri).name if run else BASELINES
    if out_uri is not None:
        out = open_storage(out_uri if is_first else f"{open_storage(out_uri).uri}/compare/{name}")
    else:
        assert run  # `evaluate` requires one of both
        out = open_storage(f"{run.storage.uri}/evaluation/{benchmark.name}")
    generators = {one.name: one for one in find_generators(run)} if run else {}
    return RunEvaluation(name, out, run, generators, {}, {})


def _check_scale_and_kernel(
    benchmark: Benchmark, run: TrainingRun | None, *, is_first: bool
) -> None:
    """Refuses images of another scale than the run's; warns of another kernel."""
    if run is None:
        return
    images = benchmark.hr[0].storage.uri
    if run.scale not in (None, benchmark.scale):
        if is_first:
            fix = f"pass a data set of x{run.scale}, or HR images by --hr"
        else:
            fix = f"leave it out, or name a run of x{benchmark.scale}"
        raise UserError(
            f"{run.storage.uri}: is a run of x{run.scale}, and {images} is scored at "
            f"x{benchmark.scale}; {fix}"
        )
    if run.kernel not in (None, benchmark.kernel):
        _log.warning(
            "%s: was trained on LR of the kernel %s, and %s is scored with the kernel %s",
            run.storage.uri,
            run.kernel,
            images,
            benchmark.kernel,
        )


def _check_epochs(evaluation: RunEvaluation, epochs: Sequence[int] | None) -> None:
    stored = [one.epoch for one in evaluation.generators.values() if one.epoch]
    missing = sorted(set(epochs or ()) - set(stored))
    if missing and evaluation.run:
        raise UserError(
            f"{evaluation.run.storage.uri}: holds no generator of epoch {missing[0]}; "
            f"it has {stored}"
        )


def _evaluate_one(
    benchmark: Benchmark, evaluation: RunEvaluation, epochs: Sequence[int] | None
) -> tuple[RunEvaluation, UserError | JobFailedError | None]:
    """Scores what is missing and writes the results.

    Returns:
        The evaluation with its scores, and the error if something could not be scored.
    """
    out, run = evaluation.out, evaluation.run
    protocol = benchmark.protocol() | {
        "run sha256": run.identity if run else "none",
        "VGG sha256": run.vgg_sha256 if run else "none",
    }
    out.delete_partial()  # of an evaluation that was killed
    stored = read_score_files(out)
    outdated = _outdated(out, stored, protocol)
    new = []
    for one in evaluation.generators.values():
        if one.name in outdated:
            new.append(one)
            continue
        if epochs and one.epoch not in (None, *epochs):
            continue
        if one.name not in stored:
            new.append(one)
        elif stored[one.name].generator_sha256 != one.sha256:
            _log.info("%s: was written anew since it was scored: scored again", one.key)
            new.append(one)
    if run and not any(one.epoch for one in evaluation.generators.values()):
        _log.info("%s: no epoch of its last phase is finished yet", run.storage.uri)
    problem: UserError | JobFailedError | None = None
    has_baselines = BASELINES in stored and BASELINES not in outdated
    if new or not has_baselines:
        try:
            score_missing(benchmark, run, out, protocol, new, with_baselines=not has_baselines)
        except (UserError, JobFailedError) as error:
            if BASELINES not in read_score_files(out):
                raise
            problem = error
    else:
        _log.info("%s: already complete, nothing to score", out.uri)
    return write_results(evaluation, benchmark, protocol), problem


def _outdated(out: Storage, stored: dict[str, ScoreFile], protocol: dict[str, Any]) -> set[str]:
    """The score files of a version with other measures: they are made again.

    Raises:
        UserError: If a score file differs in more: it is of other images or of another run.
    """
    outdated, changed = set(), set()
    for name, file in stored.items():
        keys = {
            key
            for key in file.protocol.keys() | protocol.keys()
            if file.protocol.get(key) != protocol.get(key)
        }
        if keys - {measure.title for measure in MEASURES}:
            raise UserError(
                f"{out.uri}: was made by another protocol "
                f"({'; '.join(differences(file.protocol, protocol))}); delete it, or choose "
                "another --out"
            )
        if keys:
            outdated.add(name)
            changed |= keys
    if outdated:
        _log.info(
            "%s: was made by a version with other measures (%s): scored again",
            out.uri,
            ", ".join(sorted(changed)),
        )
    return outdated


def _with_distinct_names(evaluations: Sequence[RunEvaluation]) -> list[RunEvaluation]:
    """Runs of the same name get their evaluation's URI as their name."""
    names = [one.name for one in evaluations]
    return [
        one._replace(name=one.out.uri) if names.count(one.name) > 1 else one for one in evaluations
    ]
