"""The tables that are made from the scores: CSV for programs, Markdown for people. Pure."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from srgan.evaluation.measures import MEASURES, Measure, Values

NEAREST, BICUBIC, SRRESNET, SRGAN, HR = METHODS = ("nearest", "bicubic", "srresnet", "srgan", "hr")
TITLES = dict(zip(METHODS, ("nearest", "bicubic", "SRResNet", "SRGAN", "HR"), strict=True))

ABSENT = "–"

_ALL = tuple(measure.key for measure in MEASURES)
_CORE = ("psnr_rgb", "psnr_y", "ssim_rgb", "ssim_y")
_SHOWN = ("psnr_rgb", "psnr_y", "ssim_y")

EPOCH_COLUMNS = (NEAREST, BICUBIC, SRGAN, HR)
"""The methods of a table by epoch."""


class ImageScore(NamedTuple):
    """One image's measures by one method; the epoch is None for a method without epochs."""

    epoch: int | None
    method: str
    image: str
    values: Values


Means = dict[tuple[str, int | None], Values]
"""By (method, epoch), in the order of METHODS, then epochs."""


class TableRun(NamedTuple):
    """A run in the tables and the report, or the baselines alone.

    Attributes:
        name: Its name, which is shown if there are several runs.
        means: Its scores, means over the images.
        records: The lines of its metrics.jsonl; may be empty.
        config: Its configuration as YAML; may be empty.
    """

    name: str
    means: Means
    records: Sequence[dict[str, Any]] = ()
    config: str = ""


def mean_values(scores: Iterable[ImageScore]) -> Means:
    """Means over the images; a measure that any image lacks is missing."""
    groups: dict[tuple[str, int | None], list[Values]] = {}
    for row in sorted(scores, key=lambda row: (METHODS.index(row.method), row.epoch or 0)):
        groups.setdefault((row.method, row.epoch), []).append(row.values)
    return {
        key: {
            measure.key: float(np.mean([values[measure.key] for values in rows]))
            for measure in MEASURES
            if all(measure.key in values for values in rows)
        }
        for key, rows in groups.items()
    }


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
    runs: Sequence[TableRun], protocol: Mapping[str, Any], generators: Mapping[str, str]
) -> str:
    """The tables for people, and below them the protocol.

    Args:
        runs: One run, or several to be compared.
        protocol: How the scores were made.
        generators: The sha256 of each generator by its name.
    """
    lines = []
    for measure in MEASURES:
        if measure.key in _SHOWN:
            unit = f" in {measure.unit}" if measure.unit else ""
            rows = [
                [run.name, epoch, *(cell(values, measure) for values in row.values())]
                for run in runs
                for epoch, row in epoch_rows(run.means)
            ]
            header = ["epoch", *(TITLES[method] for method in EPOCH_COLUMNS)]
            lines += [f"{measure.title}{unit}:", "", *_markdown(header, rows, runs), ""]
    rows = [
        [run.name, TITLES[method], _text(epoch), *(cell(values, measure) for measure in MEASURES)]
        for run in runs
        for (method, epoch), values in run.means.items()
    ]
    header = ["method", "epoch", *(measure.title for measure in MEASURES)]
    lines += ["All measures:", "", *_markdown(header, rows, runs), ""]
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
