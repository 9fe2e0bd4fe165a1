"""The report: one HTML page that holds its pictures and loads nothing else. Pure."""

import base64
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from data_pipeline.images import Image, encode_png
from srgan.evaluation.comparison import Panel, Place
from srgan.evaluation.measures import MEASURES, OPINIONS, Measure, Values
from srgan.evaluation.plots import discriminator_figure, loss_figure, score_figure, svg
from srgan.evaluation.table import (
    ABSENT,
    BICUBIC,
    EPOCH_COLUMNS,
    HR,
    SRGAN,
    TableRun,
    cell,
    column_titles,
    epoch_rows,
    epochs_of,
    measures_of,
)
from srgan.evaluation.verdict import verdict

_EPOCH_TABLES = [measure for measure in MEASURES if measure.key in ("psnr_rgb", "psnr_y")]
_CURVES = ("psnr_y", "ssim_y", "lpips")
_STAGE_SIDE, _PANEL_SIDE = 640, 256  # CSS pixels
_LEAST_ZOOM = 2


class Facts(NamedTuple):
    """What was scored.

    Attributes:
        data_set: The images' name.
        num_images: How many they are.
        scored: When the newest scores were made, in UTC: `2026-01-31T03:12:45Z`; "" if not known.
    """

    data_set: str
    num_images: int
    scored: str


class Example(NamedTuple):
    """An image by all methods.

    Attributes:
        image: Its name.
        why: Why this image is shown.
        panels: Two or more of one size: nearest, bicubic, generators, HR.
        judged: The title of the panel to show first beside bicubic; "" shows the last generator.
        place: Where the panels lie in the image; None if they are the whole image.
    """

    image: str
    why: str
    panels: tuple[Panel, ...]
    judged: str = ""
    place: Place | None = None


class _Cell(NamedTuple):
    text: str
    is_best: bool


class _Row(NamedTuple):
    title: str
    cells: list[_Cell]


class _Group(NamedTuple):
    """The rows of a run."""

    run: str
    rows: list[_Row]


class _Best(NamedTuple):
    """The best generator's value as it is shown, and whether it is better than bicubic's."""

    text: str
    beats_bicubic: bool


class _ExampleView(NamedTuple):
    """An example and how to show it: the two panels compared first, and widths in CSS pixels."""

    example: Example
    left: int
    right: int
    stage_width: int
    panel_width: int


def report_html(
    facts: Facts,
    runs: Sequence[TableRun],
    examples: Sequence[Example],
    *,
    notes: Sequence[str],
    protocol: Mapping[str, Any],
    generators: Mapping[str, str],
) -> str:
    """Makes the page; the same arguments give the same bytes.

    Args:
        facts: What was scored.
        runs: One run, or several to be compared; a run may have no generators.
        examples: Images to show; may be empty.
        notes: Lines below the table of all measures, from `left_out_notes`; may be empty.
        protocol: How the scores were made, in the order in which it is shown.
        generators: The sha256 of each generator by its name.

    Returns:
        HTML, in which no name can become a tag, a script or a formula.
    """
    has_generator = any(epochs_of(run.means) for run in runs)
    titles = dict(zip(EPOCH_COLUMNS, column_titles(runs), strict=True))
    if not has_generator:
        del titles[SRGAN]
    best = {measure.key: _best(runs, measure) for measure in (*MEASURES, *OPINIONS)}
    tables = [(measure, _epoch_groups(runs, measure, titles, best)) for measure in _EPOCH_TABLES]
    measures, lacking = measures_of(runs)
    groups = [_Group(run.name, _method_rows(run, measures, best)) for run in runs]
    shown = [row for _, parts in (*tables, ("", groups)) for part in parts for row in part.rows]
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
        facts=facts,
        date=facts.scored[:10],
        runs=runs,
        verdicts=[verdict(run) for run in runs],
        has_generator=has_generator,
        titles=titles,
        tables=tables,
        measures=measures,
        lacking=[measure.title for measure in lacking],
        groups=groups,
        has_absent=any(value.text == ABSENT for row in shown for value in row.cells),
        has_best=any(value.is_best for row in shown for value in row.cells),
        not_better=[
            measure.title
            for measure in MEASURES
            if (one := best[measure.key]) and not one.beats_bicubic
        ],
        absent=ABSENT,
        notes=notes,
        examples=[_example(example) for example in examples],
        plots=_plots(runs),
        differing=_differing(runs),
        protocol=protocol,
        generators=generators,
    )


def _epoch_groups(
    runs: Sequence[TableRun],
    measure: Measure,
    methods: Collection[str],
    best: Mapping[str, _Best | None],
) -> list[_Group]:
    """The rows of a table by epoch; only a generator of an epoch can be the best."""
    return [
        _Group(
            run.name,
            [
                _Row(
                    epoch or ABSENT,
                    [
                        _cell(row[method], measure, best[measure.key] if method == SRGAN else None)
                        for method in methods
                    ],
                )
                for epoch, row in epoch_rows(run.means)
            ],
        )
        for run in runs
    ]


def _method_rows(
    run: TableRun, measures: Sequence[Measure], best: Mapping[str, _Best | None]
) -> list[_Row]:
    """A run's rows, one per method and epoch."""
    return [
        _Row(
            run.title(method) + ("" if epoch is None else f", epoch {epoch}"),
            [
                _cell(values, measure, best[measure.key] if method == SRGAN else None)
                for measure in measures
            ],
        )
        for (method, epoch), values in run.means.items()
    ]


def _best(runs: Sequence[TableRun], measure: Measure) -> _Best | None:
    """The best value of all epochs.

    None if fewer than two values differ, bicubic has none, or bicubic has HR's, as of a grid.
    """
    rows = [values for run in runs for key, values in run.means.items() if key[0] == SRGAN]
    finite = [row for row in rows if math.isfinite(row.get(measure.key, math.nan))]
    bicubic = [run.means.get((BICUBIC, None), {}).get(measure.key, math.nan) for run in runs]
    level = next(filter(math.isfinite, bicubic), None)
    if level is None or len({cell(row, measure) for row in finite}) < 2:
        return None
    if cell({measure.key: level}, measure) == cell(runs[0].means.get((HR, None)), measure):
        return None
    sign = 1 if measure.higher_is_better else -1
    text = cell(max(finite, key=lambda row: sign * row[measure.key]), measure)
    return _Best(text, sign * float(text) > sign * float(cell({measure.key: level}, measure)))


def _cell(values: Values | None, measure: Measure, best: _Best | None) -> _Cell:
    text = cell(values, measure)
    is_best = best is not None and best.beats_bicubic and text == best.text
    return _Cell("∞" if text == "inf" else text, is_best)


def _differing(runs: Sequence[TableRun]) -> dict[str, list[tuple[str, Any]]]:
    """The settings that differ between runs by their dotted keys: names of runs and values.

    A phase that one run lacks is told by those of its settings that are not empty.
    """
    found = {}
    for key in sorted({key for run in runs for key in run.settings}):
        values = [run.settings.get(key) for run in runs]
        is_everywhere = all(key in run.settings for run in runs)
        compared = values if is_everywhere else [value or None for value in values]
        if any(value != compared[0] for value in compared):
            shown = (ABSENT if value is None else value for value in values)
            found[key] = [(run.name, value) for run, value in zip(runs, shown, strict=True)]
    return found


def _data_uri(image: Image) -> str:
    return "data:image/png;base64," + base64.b64encode(encode_png(image)).decode()


def _example(example: Example) -> _ExampleView:
    # Panels are nearest, bicubic, generators, HR: compare bicubic with a generator, or HR.
    titles = [panel.title for panel in example.panels]
    last = len(titles) - 1
    left = max(0, min(1, last - 1))
    right = min(last, max(left + 1, last - 1))
    if example.judged in titles:
        right = titles.index(example.judged)
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
