"""The tables that are made from the scores: CSV for programs, Markdown for people. Pure."""

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from srgan.evaluation.measures import MEASURES, OPINIONS, Measure, Values

NEAREST, BICUBIC, SRRESNET, SRGAN, HR = METHODS = ("nearest", "bicubic", "srresnet", "srgan", "hr")
TITLES = dict(zip(METHODS, ("nearest", "bicubic", "SRResNet", "SRGAN", "HR"), strict=True))

ABSENT = "–"

_ALL = tuple(measure.key for measure in MEASURES)
_CORE = ("psnr_rgb", "psnr_y", "ssim_rgb", "ssim_y")
_SHOWN = ("psnr_rgb", "psnr_y", "ssim_y", "lpips")
_SHOWN_NAMES = 3

EPOCH_COLUMNS = (NEAREST, BICUBIC, SRGAN, HR)
"""The methods of a table by epoch."""

PROTOCOL_TITLE = "Protocol:"
"""The line of psnr.md that ends what people read first."""


class ImageScore(NamedTuple):
    """One image's measures by one method; the epoch is None for a method without epochs."""

    epoch: int | None
    method: str
    image: str
    values: Values


Means = dict[tuple[str, int | None], Values]
"""By (method, epoch), in the order of METHODS, then epochs."""

LeftOut = dict[str, tuple[str, ...]]
"""The images that are in no mean of a measure, in the order of their names, by its key."""


class TableRun(NamedTuple):
    """A run in the tables and the report, or the baselines alone.

    Attributes:
        name: Its name, which is shown if there are several runs.
        means: Its scores, means over the images.
        records: The lines of its metrics.jsonl; may be empty.
        config: Its configuration as YAML; may be empty.
        settings: The same by dotted keys, to compare runs.
        uri: Where RUN is; "" for the baselines alone.
        is_gan: Whether it trains with an adversarial loss. Without one, people read SRResNet as the
            name of its epochs' generators; programs read `srgan` in any case.
    """

    name: str
    means: Means
    records: Sequence[dict[str, Any]] = ()
    config: str = ""
    settings: Mapping[str, Any] = MappingProxyType({})
    uri: str = ""
    is_gan: bool = True

    def title(self, method: str) -> str:
        """A method's name for people."""
        return method_title(method, is_gan=self.is_gan)


def method_title(method: str, *, is_gan: bool) -> str:
    """A method's name for people; `is_gan` as in TableRun."""
    return TITLES[SRRESNET if method == SRGAN and not is_gan else method]


def images_left_out(*tables: Iterable[ImageScore]) -> LeftOut:
    """The images on which a measure is not finite by every method of these tables that takes it.

    A method that reproduces an image, for example a black one, has an infinite PSNR there, and some
    images are too small for some measures. Without these images all methods are compared on the
    same ones. HR's own PSNR may be infinite. A method that lacks a measure on every image of a
    table leaves out none.
    """
    found: dict[str, set[str]] = {}
    for table in map(list, tables):
        is_taken = {(row.method, row.epoch, key) for row in table for key in row.values}
        for row in table:
            for key in _ALL:
                value = row.values.get(key, math.nan)
                is_fine = math.isfinite(value) or (row.method == HR and value == math.inf)
                if not is_fine and (row.method, row.epoch, key) in is_taken:
                    found.setdefault(key, set()).add(row.image)
    return {key: tuple(sorted(images)) for key, images in found.items()}


def mean_values(scores: Iterable[ImageScore], left_out: LeftOut) -> Means:
    """Means over the images that are not left out.

    They are finite, but for HR's, which may be `inf`. A measure is missing if no image is left that
    has it.

    Args:
        scores: Of the methods of a table, or of some of them.
        left_out: From `images_left_out` of all methods that are compared.
    """
    groups: dict[tuple[str, int | None], list[ImageScore]] = {}
    for row in sorted(scores, key=lambda row: (METHODS.index(row.method), row.epoch or 0)):
        groups.setdefault((row.method, row.epoch), []).append(row)
    return {key: _means(rows, left_out) for key, rows in groups.items()}


def _means(rows: Sequence[ImageScore], left_out: LeftOut) -> Values:
    """One method's means."""
    means = {}
    for key in _ALL:
        skipped = set(left_out.get(key, ()))
        having = [row for row in rows if key in row.values]
        kept = [row.values[key] for row in having if row.image not in skipped]
        if kept or any(row.method == HR and row.values[key] == math.inf for row in having):
            means[key] = float(np.mean(kept or [math.inf]))
    return means


def left_out_notes(left_out: LeftOut, num_images: int) -> list[str]:
    """Lines below the tables: which means leave out which of the `num_images` images, and why."""
    measures: dict[tuple[str, ...], list[str]] = {}
    for measure in MEASURES:
        if measure.key in left_out:
            measures.setdefault(left_out[measure.key], []).append(measure.title)
    no_mean = f"; no image is left, so there is no mean ({ABSENT})"
    return [
        f"{', '.join(titles)}: the means leave out {len(images)} of {num_images} images, on which "
        f"a method other than HR has no finite value: {some_names(images)}"
        + (no_mean if len(images) == num_images else "")
        for images, titles in measures.items()
    ]


def some_names(names: Sequence[str]) -> str:
    """The first three names, and how many more there are."""
    more = len(names) - _SHOWN_NAMES
    return ", ".join(names[:_SHOWN_NAMES]) + (f" and {more} more" if more > 0 else "")


def epochs_of(means: Means) -> list[int]:
    """The epochs of the generators that have scores, ascending."""
    return [epoch for method, epoch in means if method == SRGAN and epoch is not None]


def epoch_rows(means: Means) -> list[tuple[str, dict[str, Values | None]]]:
    """The rows of a table by epoch: the epoch, and values by nearest, bicubic, SRGAN and HR.

    Without a generator there is one row, whose epoch is "".
    """
    epochs: list[int | None] = [*epochs_of(means)] or [None]
    return [
        (
            _text(epoch),
            {
                method: means.get((method, epoch if method == SRGAN else None))
                for method in EPOCH_COLUMNS
            },
        )
        for epoch in epochs
    ]


def column_titles(runs: Sequence[TableRun]) -> list[str]:
    """The titles of EPOCH_COLUMNS; SR for generators of both kinds."""
    generators = {run.title(SRGAN) for run in runs}
    titles = TITLES | {SRGAN: generators.pop() if len(generators) == 1 else "SR"}
    return [titles[method] for method in EPOCH_COLUMNS]


def measures_of(runs: Sequence[TableRun]) -> tuple[list[Measure], list[Measure]]:
    """The measures and opinions that some method of the runs has; the measures that none has."""
    found = {key for run in runs for values in run.means.values() for key in values}
    has = [one for one in (*MEASURES, *OPINIONS) if one.key in found]
    return has, [one for one in MEASURES if one.key not in found]


def cell(values: Values | None, measure: Measure) -> str:
    """A value for people."""
    if values is None or measure.key not in values:
        return ABSENT
    return f"{values[measure.key]:.{measure.digits}f}"


def scores_csv(means: Means, num_images: int) -> str:
    """`epoch,method,psnr_rgb,psnr_y,ssim_rgb,ssim_y,num_images`, a row per method and epoch."""
    return measures_csv([TableRun("", means)], num_images, _CORE)


def measures_csv(runs: Sequence[TableRun], num_images: int, keys: Sequence[str] = _ALL) -> str:
    """As scores.csv, with the measures of `keys`; a value that is absent is empty.

    Several runs have a first column with their name.
    """
    first = 0 if len(runs) > 1 else 1
    rows = [
        [run.name, _text(epoch), method, *(_number(values, key) for key in keys), str(num_images)]
        for run in runs
        for (method, epoch), values in run.means.items()
    ]
    header = ["run", "epoch", "method", *keys, "num_images"]
    return _csv(header[first:], [row[first:] for row in rows])


def psnr_csv(means: Means) -> str:
    """`epoch,nearest,bicubic,srgan,hr`: mean RGB PSNR in dB, a row per epoch."""
    rows = [
        [epoch, *(_number(values, "psnr_rgb") for values in row.values())]
        for epoch, row in epoch_rows(means)
    ]
    return _csv(["epoch", *EPOCH_COLUMNS], rows)


def psnr_markdown(
    runs: Sequence[TableRun],
    verdicts: Sequence[str],
    notes: Sequence[str],
    protocol: Mapping[str, Any],
    generators: Mapping[str, str],
) -> str:
    """The tables for people; above them verdicts, below them notes and the protocol.

    Args:
        runs: One run, or several to be compared.
        verdicts: A paragraph for each run.
        notes: From `left_out_notes`.
        protocol: How the scores were made.
        generators: The sha256 of each generator by its name.
    """
    lines = [line for verdict in verdicts for line in (verdict, "")]
    measures, lacking = measures_of(runs)
    for measure in measures:
        if measure.key in _SHOWN:
            unit = f" in {measure.unit}" if measure.unit else ""
            rows = [
                [run.name, epoch, *(cell(values, measure) for values in row.values())]
                for run in runs
                for epoch, row in epoch_rows(run.means)
            ]
            header = ["epoch", *column_titles(runs)]
            lines += [f"{measure.title}{unit}:", "", *_markdown(header, rows, runs), ""]
    rows = [
        [
            run.name,
            run.title(method),
            _text(epoch),
            *(cell(values, measure) for measure in measures),
        ]
        for run in runs
        for (method, epoch), values in run.means.items()
    ]
    header = ["method", "epoch", *(measure.title for measure in measures)]
    lines += ["All measures:", "", *_markdown(header, rows, runs), ""]
    if lacking:
        lines.append(f"Not measured: {', '.join(measure.title for measure in lacking)}  ")
    lines += [f"{note}  " for note in notes]
    lines += ["", PROTOCOL_TITLE, ""]
    lines += [f"{key}: {value}  " for key, value in protocol.items()]
    lines += [f"generator {key}: sha256 {value}  " for key, value in generators.items()]
    return "\n".join(lines) + "\n"


def _text(epoch: int | None) -> str:
    return "" if epoch is None else str(epoch)


def _number(values: Values | None, key: str) -> str:
    """A value for programs; empty where it is absent."""
    return "" if values is None or key not in values else f"{values[key]:.4f}"


def _markdown(header: list[str], rows: list[list[str]], runs: Sequence[TableRun]) -> list[str]:
    """A table whose rows begin with their run's name; it is shown only if there are several."""
    first = 0 if len(runs) > 1 else 1
    cells = [["run", *header], ["---"] * (len(header) + 1), *rows]
    return [f"| {' | '.join(row[first:])} |" for row in cells]


def _csv(header: list[str], rows: list[list[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    return text.getvalue()
