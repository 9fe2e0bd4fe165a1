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

_CORE = ("psnr_rgb", "psnr_y", "ssim_rgb", "ssim_y")
_SHOWN = ("psnr_rgb", "psnr_y", "ssim_y")


class ImageScore(NamedTuple):
    """One image's measures by one method; the epoch is None where a method has none."""

    epoch: int | None
    method: str
    image: str
    values: Values


Means = dict[tuple[str, int | None], Values]
"""By (method, epoch), in the order of METHODS, then epochs."""


class Scored(NamedTuple):
    """A run, or the baselines alone, in a table: its name there and its means."""

    name: str
    means: Means


def mean_values(scores: Iterable[ImageScore]) -> Means:
    """Means over the images; a measure that some image lacks is missing."""
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


def cell(values: Values | None, measure: Measure) -> str:
    """A value for people."""
    if values is None or measure.key not in values:
        return ABSENT
    return f"{values[measure.key]:.{measure.digits}f}"


def scores_csv(means: Means, num_images: int) -> str:
    """`epoch,method,psnr_rgb,psnr_y,ssim_rgb,ssim_y,num_images`, a row per method and epoch."""
    return _measures_csv([Scored("", means)], _CORE, num_images)


def measures_csv(runs: Sequence[Scored], num_images: int) -> str:
    """As scores.csv with every measure, empty where it is absent; several runs are named."""
    return _measures_csv(runs, [measure.key for measure in MEASURES], num_images)


def psnr_csv(means: Means) -> str:
    """`epoch,nearest,bicubic,srgan,hr`: mean RGB PSNR in dB, a row per epoch."""
    rows = [
        ["" if epoch is None else epoch, *(_number(means.get(key), "psnr_rgb") for key in keys)]
        for epoch, keys in _rows_of_epochs(means)
    ]
    return _csv(["epoch", NEAREST, BICUBIC, SRGAN, HR], rows)


def psnr_markdown(
    runs: Sequence[Scored], protocol: Mapping[str, Any], generators: Mapping[str, str]
) -> str:
    """The tables for people above the protocol.

    Args:
        runs: One run, or several to be compared.
        protocol: How the scores were made.
        generators: sha256 of each generator by its name.
    """
    lines = []
    for measure in MEASURES:
        if measure.key in _SHOWN:
            unit = f" in {measure.unit}" if measure.unit else ""
            header = ["epoch", *(TITLES[method] for method in (NEAREST, BICUBIC, SRGAN, HR))]
            rows = [
                [
                    run.name,
                    "" if epoch is None else str(epoch),
                    *(cell(run.means.get(key), measure) for key in keys),
                ]
                for run in runs
                for epoch, keys in _rows_of_epochs(run.means)
            ]
            lines += [f"{measure.title}{unit}:", "", *_markdown(header, rows, runs), ""]
    header = ["method", "epoch", *(measure.title for measure in MEASURES)]
    rows = [
        [
            run.name,
            TITLES[method],
            "" if epoch is None else str(epoch),
            *(cell(values, measure) for measure in MEASURES),
        ]
        for run in runs
        for (method, epoch), values in run.means.items()
    ]
    lines += ["All measures:", "", *_markdown(header, rows, runs), ""]
    lines += [f"{key}: {value}  " for key, value in protocol.items()]
    lines += [f"generator {key}: sha256 {value}  " for key, value in generators.items()]
    return "\n".join(lines) + "\n"


def _rows_of_epochs(means: Means) -> list[tuple[int | None, list[tuple[str, int | None]]]]:
    """A row's epoch and its keys; one row without an epoch where there is no generator."""
    epochs: list[int | None] = [*epochs_of(means)] or [None]
    return [
        (epoch, [(NEAREST, None), (BICUBIC, None), (SRGAN, epoch), (HR, None)]) for epoch in epochs
    ]


def _measures_csv(runs: Sequence[Scored], keys: Sequence[str], num_images: int) -> str:
    named = len(runs) > 1
    rows = [
        [
            *([run.name] if named else []),
            "" if epoch is None else epoch,
            method,
            *(_number(values, key) for key in keys),
            num_images,
        ]
        for run in runs
        for (method, epoch), values in run.means.items()
    ]
    return _csv([*(["run"] if named else []), "epoch", "method", *keys, "num_images"], rows)


def _number(values: Values | None, key: str) -> str:
    """A value for programs; empty where it is absent."""
    return "" if values is None or key not in values else f"{values[key]:.4f}"


def _markdown(header: list[str], rows: list[list[str]], runs: Sequence[Scored]) -> list[str]:
    """A table whose rows begin with their run's name, which a single run does not show."""
    first = 0 if len(runs) > 1 else 1
    cells = [["run", *header], ["---"] * (len(header) + 1), *rows]
    return [f"| {' | '.join(row[first:])} |" for row in cells]


def _csv(header: list[str], rows: list[list[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()
