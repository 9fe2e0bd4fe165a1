"""Curves for the report, as SVG whose text and axes take the page's colour. Pure."""

import io
import math
import re
from collections.abc import Mapping, Sequence
from html import escape
from itertools import groupby
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from srgan.config import LossWeights
from srgan.evaluation.measures import Measure
from srgan.evaluation.table import BICUBIC, SRGAN, SRRESNET, TITLES, TableRun

LOSS_TERMS = (*LossWeights.model_fields, "generator_loss", "discriminator_loss")

# Okabe and Ito's colours; first those with the best contrast on both white and black.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#f0e442")
_DASHES = ("-", "--", "-.", ":")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_MOST_MARKERS = 20
_LONGEST_NAME = 28

_TEXT = "#010203"  # stands for currentColor, which Matplotlib does not know
_STYLE: Any = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a $ in a run's name is not a formula
    "text.color": _TEXT,
    "axes.edgecolor": _TEXT,
    "axes.labelcolor": _TEXT,
    "xtick.color": _TEXT,
    "ytick.color": _TEXT,
    "grid.color": _TEXT,
    "grid.alpha": 0.15,
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.formatter.useoffset": False,
    "axes.linewidth": 0.8,
    "font.size": 11,  # points; the picture is 360 points wide, so a phone shows it legibly
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
}


def score_figure(runs: Sequence[TableRun], measure: Measure) -> Figure | None:
    """A measure over the epochs, a line per run; bicubic and SRResNet as levels.

    Up to seven lines have a colour each. More lines repeat the colours, with other dashes. In the
    picture of one run, SRResNet has the same colour whether it is a level or the run's own curve.

    Args:
        runs: One run, or several to be compared.
        measure: The measure.

    Returns:
        None if no run has a generator with a finite value.
    """
    curves = [
        {
            float(epoch): _finite(values.get(measure.key))
            for (method, epoch), values in run.means.items()
            if method == SRGAN and epoch is not None
        }
        for run in runs
    ]
    if all(math.isnan(value) for curve in curves for value in curve.values()):
        return None
    with mpl.rc_context(_STYLE):
        figure, axes = _empty()
        first = 0 if len(runs) > 1 or runs[0].is_gan else 1
        for number, (run, curve) in enumerate(zip(runs, curves, strict=True), first):
            label = _run_label(SRGAN, run, runs)
            _curve(axes, list(curve), list(curve.values()), label, number)
        level = next(filter(math.isfinite, (_level(run, BICUBIC, measure) for run in runs)), None)
        if level is not None:
            axes.axhline(level, color=_TEXT, linestyle=(0, (5, 3)), label=TITLES[BICUBIC])
        for number, run in enumerate(runs, len(runs)):
            level = _level(run, SRRESNET, measure)
            if math.isfinite(level):
                label = _run_label(SRRESNET, run, runs)
                dashes = (0, (1, 2 + 2 * (number // len(_COLOURS))))
                axes.axhline(level, color=_colour(number), linestyle=dashes, label=label)
        _finish(figure, axes, columns=3 if len(runs) == 1 else 1)
        axes.set_xlabel("epoch")
    return figure


def loss_figure(records: Sequence[Mapping[str, Any]]) -> Figure | None:
    """The loss terms over a run's epochs, before they are multiplied by their weights.

    Args:
        records: Lines of metrics.jsonl.

    Returns:
        None if no value is finite.
    """
    figure = _record_figure(records, {term: term.replace("_", " ") for term in LOSS_TERMS})
    if figure is None:
        return None
    every = [_finite(record.get(term)) for record in records for term in LOSS_TERMS]
    shown = [value for value in every if not math.isnan(value)]
    if min(shown) > 0:
        ratio = max(shown) / min(shown)
        axis = figure.axes[0].yaxis
        with mpl.rc_context(_STYLE):
            figure.axes[0].set_yscale("log")
            axis.set_major_locator(
                MaxNLocator(5)
                if ratio < 10
                else LogLocator(subs=(1, 2, 5) if ratio < 500 else (1,))
            )
            axis.set_minor_locator(NullLocator())
            axis.set_major_formatter(lambda value, _: f"{value:g}")
    return figure


def discriminator_figure(records: Sequence[Mapping[str, Any]]) -> Figure | None:
    """D(HR) and D(SR), the mean probabilities of "real", over a run's epochs; else None."""
    figure = _record_figure(records, {"d_hr": "D(HR)", "d_sr": "D(SR)"})
    if figure is not None:
        figure.axes[0].set_ylim(-0.03, 1.03)
    return figure


def svg(figure: Figure, *, label: str, prefix: str) -> str:
    """Draws a figure for a page.

    Args:
        figure: A figure of this module.
        label: The text for screen readers.
        prefix: What its ids begin with; every picture of a page needs another one.

    Returns:
        An `<svg>` element as wide as its parent; the same text for the same figure.
    """
    text = io.StringIO()
    with mpl.rc_context(_STYLE | {"svg.hashsalt": prefix}):
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    drawn = text.getvalue()
    drawn = drawn[drawn.index("<svg") :]
    drawn = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", drawn, flags=re.S)
    # Only tags are changed: the text between them may be a run's name.
    drawn = re.sub(r"<[^>]*>", lambda tag: _tag(tag[0], prefix), drawn)
    drawn = re.sub(r' (?:width|height)="[\d.]+pt"', "", drawn, count=2)
    attributes = f'role="img" aria-label="{escape(label)}" stroke-linejoin="round"'
    return drawn.replace("<svg", f"<svg {attributes}", 1)


def _tag(tag: str, prefix: str) -> str:
    tag = re.sub(r'\bid="', f'id="{prefix}-', tag)
    tag = re.sub(r'href="#|url\(#', lambda found: f"{found[0]}{prefix}-", tag)
    tag = re.sub(r"font-family: [^;\"]*", "font-family: inherit", tag)
    return tag.replace(_TEXT, "currentColor")


def _empty() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(5, 3), layout="constrained")
    axes = figure.add_subplot()
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
    return figure, axes


def _finish(figure: Figure, axes: Axes, *, columns: int) -> None:
    """A legend above the axes; space left and right of a single epoch."""
    lines = [line for line in axes.lines if not str(line.get_label()).startswith("_")]
    columns = min(columns, len(lines))
    figure.legend(
        handles=lines, loc="outside upper left", ncols=columns, handlelength=2.6, columnspacing=1.2
    )
    figure.set_figheight(2.7 + 0.24 * -(-len(lines) // columns))
    left, right = axes.dataLim.intervalx
    if left == right:
        axes.set_xlim(left - 1, right + 1)


def _record_figure(records: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> Figure | None:
    """A line per name that has a finite value; a line is broken between two phases."""
    phases = [(name, list(group)) for name, group in groupby(records, lambda row: row["phase"])]
    epochs: list[float] = []
    values: dict[str, list[float]] = {name: [] for name in names}
    borders: list[float] = [0.5]
    for _, rows in phases:
        start = borders[-1] - 0.5
        epochs += [start + row["epoch"] for row in rows] + [start + rows[-1]["epoch"] + 0.5]
        borders.append(epochs[-1])
        for name in names:
            values[name] += [_finite(row.get(name)) for row in rows] + [math.nan]
    shown = [name for name, column in values.items() if not all(map(math.isnan, column))]
    if not shown:
        return None
    with mpl.rc_context(_STYLE):
        figure, axes = _empty()
        for number, name in enumerate(shown):
            _curve(axes, epochs, values[name], names[name], number)
        for (name, _), left, right in zip(phases, borders, borders[1:], strict=False):
            if left > borders[0]:
                axes.axvline(left, color=_TEXT, linewidth=1, alpha=0.6)
            where: dict[str, Any] = {
                "transform": axes.get_xaxis_transform(),
                "ha": "center",
                "va": "bottom",
            }
            axes.text((left + right) / 2, 1.01, _short(name), fontstyle="italic", **where)
        _finish(figure, axes, columns=2)
        axes.set_xlim(borders[0], borders[-1])
        axes.set_xlabel("epoch of the run")
    return figure


def _curve(axes: Axes, x: Sequence[float], y: Sequence[float], label: str, number: int) -> None:
    """A line with some markers, and one on every point without neighbours, which has no line."""
    kept = [index for index, value in enumerate(y) if not math.isnan(value)]
    if not kept:
        return
    every = -(-len(kept) // _MOST_MARKERS)
    alone = {index for index in kept if not {index - 1, index + 1} & set(kept)}
    axes.plot(
        x,
        y,
        label=label,
        color=_colour(number),
        linestyle=_DASHES[number % len(_DASHES)],
        marker=_MARKERS[number % len(_MARKERS)],
        markevery=sorted(alone | set(kept[::every])),
    )


def _colour(number: int) -> str:
    return _COLOURS[number % len(_COLOURS)]


def _level(run: TableRun, method: str, measure: Measure) -> float:
    """The value of a method without epochs; NaN if there is none."""
    found = (values for (name, _), values in run.means.items() if name == method)
    return _finite(next(found, {}).get(measure.key))


def _run_label(method: str, run: TableRun, runs: Sequence[TableRun]) -> str:
    return run.title(method) + (f", {_short(run.name)}" if len(runs) > 1 else "")


def _short(name: str) -> str:
    """Any name as one short line that XML can hold."""
    line = "".join(sign if sign.isprintable() else "\ufffd" for sign in name)
    half = _LONGEST_NAME // 2  # keep both ends: names often differ only at the end
    return line if len(line) <= _LONGEST_NAME else f"{line[:half]}…{line[-half:]}"


def _finite(value: Any) -> float:
    return float(value) if value is not None and math.isfinite(value) else math.nan
