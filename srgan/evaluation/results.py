"""The files that people and programs read, made from the scores that are stored."""

import json
import logging
from collections.abc import Sequence
from typing import Any, NamedTuple, get_args

from data_pipeline.platform.storage import Storage
from srgan.config import VggName
from srgan.config_file import dump_config
from srgan.config_identity import flatten
from srgan.evaluation.benchmark import Benchmark
from srgan.evaluation.examples import choose_images, make_examples
from srgan.evaluation.opinions import Opinions, fitting_opinions, opinions_note, with_opinions
from srgan.evaluation.report import Example, Facts, report_html
from srgan.evaluation.run_reader import (
    GeneratorFile,
    TrainingRun,
    generator_name,
    has_generator,
)
from srgan.evaluation.score_files import (
    BASELINES,
    SCORES,
    ScoreFile,
    images_parquet,
    read_score_files,
)
from srgan.evaluation.table import (
    SRGAN,
    SRRESNET,
    TITLES,
    ImageScore,
    LeftOut,
    Means,
    TableRun,
    epochs_of,
    images_left_out,
    left_out_notes,
    mean_values,
    measures_csv,
    psnr_csv,
    psnr_markdown,
    scores_csv,
)
from srgan.evaluation.verdict import verdict
from srgan.metrics_log import read_metrics

COMPARE = "compare/"

_log = logging.getLogger(__name__)


class RunEvaluation(NamedTuple):
    """The evaluation of a run, or of the baselines alone.

    Attributes:
        name: Its name in tables of several runs.
        out: Where its results go.
        run: RUN; None for the baselines alone.
        generators: The generators that RUN had when it was read, by name.
        files: Its score files by name; empty before `write_results`.
        means: Their means; likewise.
        opinions: What an opinion study found, if there was one; likewise.
    """

    name: str
    out: Storage
    run: TrainingRun | None
    generators: dict[str, GeneratorFile]
    files: dict[str, ScoreFile]
    means: Means
    opinions: Opinions | None = None

    def table_run(self) -> TableRun:
        """What tables and the report show of it."""
        means = with_opinions(self.means, self.opinions)
        if self.run is None:
            return TableRun(self.name, means)
        config = self.run.config
        return TableRun(
            self.name,
            means,
            read_metrics(self.run.storage),
            dump_config(config),
            flatten(config.model_dump()),
            self.run.storage.uri,
            config.trains_discriminator,
        )


def write_results(
    evaluation: RunEvaluation, benchmark: Benchmark, protocol: dict[str, Any]
) -> RunEvaluation:
    """Writes an evaluation's tables and report, each whole or not at all.

    They are written again until no other evaluation has written scores meanwhile, so the last one
    to write has all scores.

    Returns:
        The evaluation with its score files and means.
    """
    out = evaluation.out
    stored = read_score_files(out)
    while True:
        scored = _with_scores(evaluation, stored)
        out.write("images.parquet", images_parquet(scored.files.values(), protocol))
        out.write("scores.csv", scores_csv(scored.means, len(benchmark.hr)).encode())
        out.write("psnr.csv", psnr_csv(scored.means).encode())
        _write_tables_and_report("", [scored], benchmark, protocol)
        before, stored = stored, read_score_files(out)
        # As bytes: a score that is NaN does not equal itself.
        if images_parquet(stored.values(), {}) == images_parquet(before.values(), {}):
            return scored


def _with_scores(evaluation: RunEvaluation, stored: dict[str, ScoreFile]) -> RunEvaluation:
    """Adds scores; leaves out those of generators that RUN no longer has, after a new start."""
    run, files = evaluation.run, {}
    for name, file in stored.items():
        if name == BASELINES or (
            run and has_generator(run, evaluation.generators.get(name), name, file.generator_sha256)
        ):
            files[name] = file
        else:
            _log.warning(
                "%s/%s%s.parquet: left out, it is of a generator that the run does not have",
                evaluation.out.uri,
                SCORES,
                name,
            )
    opinions = fitting_opinions(evaluation.out, files.values())
    return on_same_images([evaluation._replace(files=files, opinions=opinions)])[0]


def on_same_images(evaluations: Sequence[RunEvaluation]) -> list[RunEvaluation]:
    """The evaluations with means over the images that none of them leaves out."""
    left_out = _left_out(evaluations)
    return [one._replace(means=mean_values(_scores(one), left_out)) for one in evaluations]


def _left_out(evaluations: Sequence[RunEvaluation]) -> LeftOut:
    return images_left_out(*map(_scores, evaluations))


def _scores(evaluation: RunEvaluation) -> list[ImageScore]:
    return [score for file in evaluation.files.values() for score in file.scores]


def write_comparison(
    evaluations: Sequence[RunEvaluation], benchmark: Benchmark, protocol: dict[str, Any]
) -> None:
    """Writes the tables and the report of several runs.

    Distances of VGG features are left out if the runs' VGG weights differ.
    """
    evaluations = on_same_images(evaluations)
    weights = {one.run.vgg_sha256 for one in evaluations if one.run}
    if len(weights - {"none"}) > 1:
        evaluations = [one._replace(means=_without_vgg(one.means)) for one in evaluations]
    _write_tables_and_report(COMPARE, evaluations, benchmark, protocol)


def _without_vgg(means: Means) -> Means:
    return {
        key: {name: value for name, value in values.items() if name not in get_args(VggName)}
        for key, values in means.items()
    }


def _write_tables_and_report(
    prefix: str,
    evaluations: Sequence[RunEvaluation],
    benchmark: Benchmark,
    protocol: dict[str, Any],
) -> None:
    """Writes what one run and several runs have, below the first run's results."""
    out = evaluations[0].out
    generators = {
        f"{one.name} {name}" if len(evaluations) > 1 else name: file.generator_sha256
        for one in evaluations
        for name, file in one.files.items()
        if file.generator_sha256
    }
    identities = {
        one.name: {"run sha256": one.run.identity, "VGG sha256": one.run.vgg_sha256}
        for one in evaluations
        if one.run
    }
    left_out = _left_out(evaluations)
    described = {
        "protocol": protocol,
        "runs": identities,
        "generators": generators,
        "images left out": left_out,
        "files": benchmark.files(),
    }
    runs = [one.table_run() for one in evaluations]
    notes = left_out_notes(left_out, len(benchmark.hr))
    notes += [
        (f"{one.name}: " if len(runs) > 1 else "") + opinions_note(one.opinions, run)
        for one, run in zip(evaluations, runs, strict=True)
        if one.opinions
    ]
    facts = Facts(
        benchmark.name,
        len(benchmark.hr),
        max(file.scored for one in evaluations for file in one.files.values()),
    )
    page = report_html(
        facts,
        runs,
        _examples(evaluations, runs, benchmark),
        notes=notes,
        protocol=protocol,
        generators=generators,
    )
    verdicts = [
        f"{run.name}: {verdict(run)}" if len(runs) > 1 else str(verdict(run)) for run in runs
    ]
    markdown = psnr_markdown(runs, verdicts, notes, protocol, generators)
    out.write(f"{prefix}protocol.json", json.dumps(described, indent=1, allow_nan=False).encode())
    out.write(f"{prefix}measures.csv", measures_csv(runs, len(benchmark.hr)).encode())
    out.write(f"{prefix}psnr.md", markdown.encode())
    out.write(f"{prefix}report.html", page.encode())


def _examples(
    evaluations: Sequence[RunEvaluation], runs: Sequence[TableRun], benchmark: Benchmark
) -> list[Example]:
    """Images by SRResNet and by the newest generator of every run.

    They are chosen by the newest generator of the first run that has one.
    """
    shown: dict[str, tuple[Storage, ScoreFile]] = {}
    judged = ""
    for one, run in zip(evaluations, runs, strict=True):
        prefix = f"{one.name} " if len(evaluations) > 1 else ""
        if SRRESNET in one.files:
            shown[prefix + TITLES[SRRESNET]] = (one.out, one.files[SRRESNET])
        if epochs := epochs_of(one.means):
            newest = one.files[generator_name(epochs[-1])]
            shown[f"{prefix}{run.title(SRGAN)} {epochs[-1]}"] = (one.out, newest)
        judged = judged or next(reversed(shown), "")
    baselines = evaluations[0].files[BASELINES]
    scores = shown[judged][1].scores if judged else None
    chosen = choose_images(baselines.scores, scores, judged)
    return make_examples(benchmark, chosen, baselines, shown, judged)
