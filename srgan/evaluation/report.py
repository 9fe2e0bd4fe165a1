"""The report: one HTML page that holds its pictures and loads nothing else. Pure."""

import base64
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from data_pipeline.images import Image, encode_png
from srgan.evaluation.comparison import Panel
from srgan.evaluation.measures import MEASURES, Measure, Values
from srgan.evaluation.plots import discriminator_figure, loss_figure, score_figure, svg
from srgan.evaluation.table import (
    ABSENT,
    EPOCH_COLUMNS,
    SRGAN,
    TITLES,
    TableRun,
    cell,
    epoch_rows,
    epochs_of,
)

_TABLES = ("psnr_rgb", "psnr_y")
_CURVES = ("psnr_y", "ssim_y")
_STAGE_SIDE, _PANEL_SIDE = 640, 256  # CSS pixels
_LEAST_ZOOM = 2


class Example(NamedTuple):
    """An image by all methods.

    Attributes:
        image: Its name.
        why: Why this image is shown.
        panels: Two or more of one size: nearest, bicubic, generators, HR.
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


class _ExampleView(NamedTuple):
    """An example and how to show it: the two panels compared first, and widths in CSS pixels."""

    example: Example
    left: int
    right: int
    stage_width: int
    panel_width: int


def report_html(
    name: str,
    runs: Sequence[TableRun],
    examples: Sequence[Example],
    *,
    notes: Sequence[str],
    protocol: Mapping[str, Any],
    generators: Mapping[str, str],
) -> str:
    """Makes the page; the same arguments give the same bytes.

    Args:
        name: The data set's name.
        runs: One run, or several to be compared; a run may have no generators.
        examples: Images to show; may be empty.
        notes: Lines below the table of all measures, from `left_out_notes`; may be empty.
        protocol: How the scores were made, in the order in which it is shown.
        generators: The sha256 of each generator by its name.

    Returns:
        HTML, in which no name can become a tag, a script or a formula.
    """
    has_generator = any(epochs_of(run.means) for run in runs)
    methods = [method for method in EPOCH_COLUMNS if has_generator or method != SRGAN]
    tables = [
        (measure, _epoch_rows(runs, measure, methods))
        for measure in MEASURES
        if measure.key in _TABLES
    ]
    groups = [(run.name, _method_rows(runs, run)) for run in runs]
    shown = [row for _, rows in (*tables, *groups) for row in rows]
    environment = Environment(
        loader=PackageLoader("srgan", "evaluation"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["data_uri"] = _data_uri
    return environment.get_template("report.html.j2").render(
        name=name,
        runs=runs,
        has_generator=has_generator,
        methods=[TITLES[method] for method in methods],
        tables=tables,
        measures=MEASURES,
        groups=groups,
        has_absent=any(value.text == ABSENT for row in shown for value in row.cells),
        has_best=any(value.is_best for row in shown for value in row.cells),
        absent=ABSENT,
        notes=notes,
        examples=[_example(example) for example in examples],
        plots=_plots(runs),
        protocol=protocol,
        generators=generators,
    )


def _epoch_rows(runs: Sequence[TableRun], measure: Measure, methods: Sequence[str]) -> list[_Row]:
    """The rows of a table by epoch; only an SRGAN can be the best."""
    best = _best(runs, measure)
    return [
        _Row(
            run.name,
            epoch or ABSENT,
            [_cell(row[method], measure, best if method == SRGAN else None) for method in methods],
        )
        for run in runs
        for epoch, row in epoch_rows(run.means)
    ]


def _method_rows(runs: Sequence[TableRun], run: TableRun) -> list[_Row]:
    """A run's rows, one per method and epoch, with every measure."""
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


def _best(runs: Sequence[TableRun], measure: Measure) -> str | None:
    """The best value of all SRGANs as it is shown; None if fewer than two values differ."""
    rows = [values for run in runs for key, values in run.means.items() if key[0] == SRGAN]
    finite = [row for row in rows if math.isfinite(row.get(measure.key, math.nan))]
    if len({cell(row, measure) for row in finite}) < 2:
        return None
    choose = max if measure.higher_is_better else min
    return cell(choose(finite, key=lambda row: row[measure.key]), measure)


def _cell(values: Values | None, measure: Measure, best: str | None) -> _Cell:
    text = cell(values, measure)
    return _Cell("∞" if text == "inf" else text, text == best)


def _data_uri(image: Image) -> str:
    return "data:image/png;base64," + base64.b64encode(encode_png(image)).decode()


def _example(example: Example) -> _ExampleView:
    # Panels are nearest, bicubic, generators, HR: compare bicubic with the last generator, or HR.
    last = len(example.panels) - 1
    left = max(0, min(1, last - 1))
    right = min(last, max(left + 1, last - 1))
    height, width = example.panels[0].image.shape[:2]
    stage, panel = (
        width * max(_LEAST_ZOOM, shown // max(height, width))
        for shown in (_STAGE_SIDE, _PANEL_SIDE)
    )
    return _ExampleView(example, left, right, stage, panel)


def _plots(runs: Sequence[TableRun]) -> list[tuple[str, str]]:
    """Captions and SVG."""
    figures: list[tuple[str, Figure | None]] = [
        (
            f"{measure.title} by epoch" + (f", {measure.unit}" if measure.unit else ""),
            score_figure(runs, measure),
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
        (caption, svg(figure, label=caption, prefix=f"plot-{number}"))
        for number, (caption, figure) in enumerate(figures, 1)
        if figure is not None
    ]
