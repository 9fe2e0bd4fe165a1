"""The files that people and programs read, made from the scores that are stored."""

import json
import logging
from collections.abc import Sequence
from typing import Any, NamedTuple, get_args

from data_pipeline.platform.storage import Storage
from srgan.config import VggName
from srgan.evaluation.benchmark import Benchmark
from srgan.evaluation.examples import ShownGenerator, choose_images, make_examples
from srgan.evaluation.report import Example, ReportRun, report_html
from srgan.evaluation.run_reader import SourceRun, is_current
from srgan.evaluation.score_files import (
    BASELINES,
    SCORES,
    ScoreSet,
    generator_name,
    images_parquet,
    read_score_sets,
)
from srgan.evaluation.score_task import GeneratorFile
from srgan.evaluation.table import (
    SRGAN,
    SRRESNET,
    TITLES,
    Means,
    Scored,
    epochs_of,
    mean_values,
    measures_csv,
    psnr_csv,
    psnr_markdown,
    scores_csv,
)

_COMPARE = "compare/"

_log = logging.getLogger(__name__)


class Subject(NamedTuple):
    """What is evaluated: a run, or the baselines alone.

    Attributes:
        name: In tables of several runs.
        out: Its evaluation.
        run: RUN; None for the baselines alone.
        generators: Those that RUN had when it was read, by name.
        records: Lines of its metrics.jsonl.
    """

    name: str
    out: Storage
    run: SourceRun | None
    generators: dict[str, GeneratorFile]
    records: list[dict[str, Any]]


class Evaluated(NamedTuple):
    """A subject, its scores by name, and their means."""

    subject: Subject
    sets: dict[str, ScoreSet]
    means: Means

    @property
    def scored(self) -> Scored:
        """For the tables."""
        return Scored(self.subject.name, self.means)


def write_results(subject: Subject, benchmark: Benchmark, protocol: dict[str, Any]) -> Evaluated:
    """Writes a subject's tables and report, each whole or not at all.

    They are made again until no other evaluation has written scores meanwhile: whoever is last
    leaves all of them.
    """
    out = subject.out
    stored = read_score_sets(out)
    while True:
        one = _current(subject, stored)
        out.write("images.parquet", images_parquet(one.sets.values(), protocol))
        out.write("scores.csv", scores_csv(one.means, len(benchmark.hr)).encode())
        out.write("psnr.csv", psnr_csv(one.means).encode())
        _write_shared(out, "", [one], benchmark, protocol)
        before, stored = stored, read_score_sets(out)
        if stored == before:
            return one


def _current(subject: Subject, stored: dict[str, ScoreSet]) -> Evaluated:
    """Without the scores of generators that RUN does not have, as after it was begun anew."""
    sets = {}
    for name, scored in stored.items():
        if name == BASELINES or (
            subject.run and is_current(subject.run, subject.generators.get(name), scored)
        ):
            sets[name] = scored
        else:
            _log.warning(
                "%s/%s%s.parquet: left out, it is of a generator that the run does not have",
                subject.out.uri,
                SCORES,
                name,
            )
    means = mean_values(score for one in sets.values() for score in one.scores)
    return Evaluated(subject, sets, means)


def write_comparison(
    evaluated: Sequence[Evaluated], benchmark: Benchmark, protocol: dict[str, Any]
) -> str:
    """Writes the table and the report of several runs; returns the table in Markdown.

    Distances of VGG features are left out where the runs' weights differ.
    """
    out = evaluated[0].subject.out
    weights = {one.subject.run.vgg for one in evaluated if one.subject.run}
    if len(weights - {"none"}) > 1:
        evaluated = [one._replace(means=_without_vgg(one.means)) for one in evaluated]
    _write_shared(out, _COMPARE, evaluated, benchmark, protocol)
    return out.read(f"{_COMPARE}psnr.md").decode()


def _without_vgg(means: Means) -> Means:
    return {
        key: {name: value for name, value in values.items() if name not in get_args(VggName)}
        for key, values in means.items()
    }


def _write_shared(
    out: Storage,
    prefix: str,
    evaluated: Sequence[Evaluated],
    benchmark: Benchmark,
    protocol: dict[str, Any],
) -> None:
    several = len(evaluated) > 1
    runs = [one.scored for one in evaluated]
    generators = {
        f"{one.subject.name} {name}" if several else name: stored.generator
        for one in evaluated
        for name, stored in one.sets.items()
        if stored.generator
    }
    identities = {
        one.subject.name: {
            "run sha256": one.subject.run.identity,
            "VGG sha256": one.subject.run.vgg,
        }
        for one in evaluated
        if one.subject.run
    }
    described = {"protocol": protocol, "runs": identities, "generators": generators}
    out.write(f"{prefix}protocol.json", json.dumps(described, indent=1).encode())
    out.write(f"{prefix}measures.csv", measures_csv(runs, len(benchmark.hr)).encode())
    out.write(f"{prefix}psnr.md", psnr_markdown(runs, protocol, generators).encode())
    page = report_html(
        benchmark.name,
        [
            ReportRun(
                one.subject.name,
                one.means,
                one.subject.records,
                one.subject.run.config_text if one.subject.run else "",
            )
            for one in evaluated
        ],
        _examples(evaluated, benchmark),
        protocol,
        generators,
    )
    out.write(f"{prefix}report.html", page.encode())


def _examples(evaluated: Sequence[Evaluated], benchmark: Benchmark) -> list[Example]:
    """Images by the end of the phase before and by the newest generator of every run."""
    sources = []
    for one in evaluated:
        name = f"{one.subject.name} " if len(evaluated) > 1 else ""
        if SRRESNET in one.sets:
            sources.append(ShownGenerator(one.subject.out, SRRESNET, name + TITLES[SRRESNET]))
        if epochs := epochs_of(one.means):
            label = f"{name}{TITLES[SRGAN]} {epochs[-1]}"
            sources.append(ShownGenerator(one.subject.out, generator_name(epochs[-1]), label))
    sets = evaluated[0].sets
    epochs = epochs_of(evaluated[0].means)
    judged = sets[generator_name(epochs[-1])] if epochs else sets.get(SRRESNET)
    chosen = choose_images(sets[BASELINES].scores, judged)
    return make_examples(benchmark, chosen, sources)
