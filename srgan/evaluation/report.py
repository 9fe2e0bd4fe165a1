"""The report: one HTML page that holds its pictures and asks for nothing else. Pure."""

import base64
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from data_pipeline.images import encode_png
from srgan.evaluation.comparison import Panel
from srgan.evaluation.measures import MEASURES, Measure, Values
from srgan.evaluation.plots import discriminator_figure, loss_figure, score_figure, svg
from srgan.evaluation.table import (
    ABSENT,
    BICUBIC,
    HR,
    NEAREST,
    SRGAN,
    TITLES,
    Means,
    Scored,
    cell,
    epochs_of,
)

_TABLES = ("psnr_rgb", "psnr_y")
_CURVES = ("psnr_y", "ssim_y")
_STAGE_SIDE, _PANEL_SIDE, _LEAST_ZOOM = 640, 256, 2  # CSS pixels


class ReportRun(NamedTuple):
    """A run, or the baselines alone.

    Attributes:
        name: Shown where there are several.
        means: Its scores.
        records: Lines of its metrics.jsonl; may be empty.
        config: Its configuration as YAML; may be empty.
    """

    name: str
    means: Means
    records: list[dict[str, Any]]
    config: str


class Example(NamedTuple):
    """An image by all methods.

    Attributes:
        image: Its name.
        why: Why this one is shown.
        panels: Two or more of one size, the worst method first, HR last; a label holds its score.
    """

    image: str
    why: str
    panels: tuple[Panel, ...]


class _Cell(NamedTuple):
    text: str
    is_best: bool


class _Row(NamedTuple):
    run: str
    title: str
    cells: list[_Cell]


class _Plot(NamedTuple):
    caption: str
    svg: str


class _Picture(NamedTuple):
    label: str
    uri: str
    width: int
    height: int


class _Example(NamedTuple):
    image: str
    why: str
    pictures: list[_Picture]
    left: int
    right: int
    stage_width: int
    panel_width: int


def report_html(
    name: str,
    runs: Sequence[ReportRun],
    examples: Sequence[Example],
    protocol: Mapping[str, Any],
    generators: Mapping[str, str],
) -> str:
    """Makes the page; the same bytes from the same arguments.

    Args:
        name: The data set's.
        runs: One run, or several to be compared; or one without generators.
        examples: Pictures, if any.
        protocol: How the scores were made, in the order in which it is shown.
        generators: sha256 of each generator by its name.

    Returns:
        HTML in which no name is taken for a tag, a script or a formula.
    """
    has_generator = any(epochs_of(run.means) for run in runs)
    tables = [
        (measure, _epoch_rows(runs, measure, has_generator))
        for measure in MEASURES
        if measure.key in _TABLES
    ]
    groups = [(run.name, _method_rows(runs, run)) for run in runs]
    shown = [row for _, rows in (*tables, *groups) for row in rows]
    page = Environment(
        loader=PackageLoader("srgan", "evaluation"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    ).get_template("report.html.j2")
    return page.render(
        name=name,
        runs=runs,
        has_generator=has_generator,
        methods=[TITLES[method] for method in _methods(has_generator)],
        tables=tables,
        measures=MEASURES,
        groups=groups,
        has_absent=any(value.text == ABSENT for row in shown for value in row.cells),
        has_best=any(value.is_best for row in shown for value in row.cells),
        absent=ABSENT,
        examples=[_example(example) for example in examples],
        plots=_plots(runs),
        protocol=protocol,
        generators=generators,
    )


def _methods(has_generator: bool) -> list[str]:
    return [NEAREST, BICUBIC, *([SRGAN] if has_generator else []), HR]


def _epoch_rows(runs: Sequence[ReportRun], measure: Measure, has_generator: bool) -> list[_Row]:
    """A row per epoch with that epoch's SRGAN; one without an epoch for the baselines alone."""
    best = _best(runs, measure)
    rows = []
    for run in runs:
        epochs: list[int | None] = [*epochs_of(run.means)]
        for epoch in epochs or [None]:
            keys = [
                (method, epoch if method == SRGAN else None) for method in _methods(has_generator)
            ]
            cells = [
                _cell(run.means.get(key), measure, best if key[0] == SRGAN else None)
                for key in keys
            ]
            rows.append(_Row(run.name, ABSENT if epoch is None else str(epoch), cells))
    return rows


def _method_rows(runs: Sequence[ReportRun], run: ReportRun) -> list[_Row]:
    """A row per method and epoch with every measure."""
    best = {measure.key: _best(runs, measure) for measure in MEASURES}
    return [
        _Row(
            run.name,
            TITLES[method] + ("" if epoch is None else f", epoch {epoch}"),
            [
                _cell(values, measure, best[measure.key] if method == SRGAN else None)
                for measure in MEASURES
            ],
        )
        for (method, epoch), values in run.means.items()
    ]


def _best(runs: Sequence[ReportRun], measure: Measure) -> str | None:
    """The best value of all generators, as it is shown; None where there is nothing to choose."""
    rows = [values for run in runs for key, values in run.means.items() if key[0] == SRGAN]
    finite = [row for row in rows if math.isfinite(row.get(measure.key, math.nan))]
    if len({cell(row, measure) for row in finite}) < 2:
        return None
    choose = max if measure.higher_is_better else min
    return cell(choose(finite, key=lambda row: row[measure.key]), measure)


def _cell(values: Values | None, measure: Measure, best: str | None) -> _Cell:
    text = cell(values, measure)
    return _Cell("∞" if text == "inf" else text, text == best)


def _example(example: Example) -> _Example:
    pictures = [
        _Picture(
            panel.label,
            "data:image/png;base64," + base64.b64encode(encode_png(panel.image)).decode(),
            panel.image.shape[1],
            panel.image.shape[0],
        )
        for panel in example.panels
    ]
    last = len(pictures) - 1
    # nearest, bicubic, ..., the last SRGAN, HR: bicubic against SRGAN, or against HR alone
    left = max(0, min(1, last - 1))
    right = min(last, max(left + 1, last - 1))
    width, side = pictures[0].width, max(pictures[0].width, pictures[0].height)
    stage, panel = (width * max(_LEAST_ZOOM, shown // side) for shown in (_STAGE_SIDE, _PANEL_SIDE))
    return _Example(example.image, example.why, pictures, left, right, stage, panel)


def _plots(runs: Sequence[ReportRun]) -> list[_Plot]:
    scored = [Scored(run.name, run.means) for run in runs]
    figures: list[tuple[str, Figure | None]] = [
        (
            f"{measure.title} by epoch" + (f", {measure.unit}" if measure.unit else ""),
            score_figure(scored, measure),
        )
        for measure in MEASURES
        if measure.key in _CURVES
    ]
    for run in runs:
        of_run = f", {run.name}" if len(runs) > 1 else ""
        figures += [
            (f"Loss terms in training{of_run}", loss_figure(run.records)),
            (f"Discriminator in training{of_run}", discriminator_figure(run.records)),
        ]
    return [
        _Plot(caption, svg(figure, label=caption, prefix=f"plot-{number}"))
        for number, (caption, figure) in enumerate(figures, 1)
        if figure is not None
    ]
