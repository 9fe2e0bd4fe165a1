"""The table: per-image scores in images.parquet, and what is derived from them.

images.parquet is the only thing an evaluation remembers; scores.csv, psnr.csv and psnr.md are
written from it.
"""

import csv
import io
import json
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_pipeline.errors import UserError
from data_pipeline.storage import Storage
from srgan.evaluation.metrics import Scores

NEAREST, BICUBIC, SRGAN, HR = METHODS = ("nearest", "bicubic", "srgan", "hr")

IMAGES_KEY = "images.parquet"

_PROTOCOL = b"protocol"
_SCHEMA = pa.schema(
    [
        pa.field("epoch", pa.int32()),
        pa.field("method", pa.string(), nullable=False),
        pa.field("image", pa.string(), nullable=False),
        *(pa.field(name, pa.float64(), nullable=False) for name in Scores._fields),
    ]
)


class ImageScore(NamedTuple):
    """One image's scores by one method; the epoch is None where a method has none."""

    epoch: int | None
    method: str
    image: str
    scores: Scores


def read_scores(storage: Storage) -> tuple[dict[str, Any] | None, list[ImageScore]]:
    """Reads images.parquet.

    Returns:
        The protocol that the scores were made by and the scores; (None, []) where there is none.
    """
    if storage.size(IMAGES_KEY) is None:
        return None, []
    try:
        stored = pq.read_table(pa.BufferReader(storage.read(IMAGES_KEY)))
        protocol = json.loads((stored.schema.metadata or {})[_PROTOCOL])
        table = stored.cast(_SCHEMA)
    except (pa.ArrowException, ValueError, KeyError) as error:
        raise UserError(
            f"{storage.uri}/{IMAGES_KEY}: is damaged; delete it to score again"
        ) from error
    scores = [
        ImageScore(
            row["epoch"],
            row["method"],
            row["image"],
            Scores(*(row[name] for name in Scores._fields)),
        )
        for row in table.to_pylist()
    ]
    return protocol, scores


def write_scores(storage: Storage, protocol: dict[str, Any], scores: list[ImageScore]) -> None:
    """Writes images.parquet, whole or not at all."""
    columns: dict[str, list[Any]] = {
        "epoch": [row.epoch for row in scores],
        "method": [row.method for row in scores],
        "image": [row.image for row in scores],
        **{name: [getattr(row.scores, name) for row in scores] for name in Scores._fields},
    }
    schema = _SCHEMA.with_metadata({_PROTOCOL: json.dumps(protocol)})
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns, schema=schema), buffer)
    storage.write(IMAGES_KEY, buffer.getvalue())


def write_tables(storage: Storage, protocol: dict[str, Any], scores: list[ImageScore]) -> None:
    """Writes scores.csv, psnr.csv and psnr.md, each whole or not at all."""
    means = mean_scores(scores)
    storage.write("scores.csv", scores_csv(means, len({row.image for row in scores})).encode())
    storage.write("psnr.csv", psnr_csv(means).encode())
    storage.write("psnr.md", psnr_markdown(means, protocol).encode())


Means = dict[tuple[str, int | None], Scores]


def mean_scores(scores: Iterable[ImageScore]) -> Means:
    """Means over the images by (method, epoch), in the order of METHODS, then epochs."""
    groups: dict[tuple[str, int | None], list[Scores]] = {}
    for row in sorted(scores, key=lambda row: (METHODS.index(row.method), row.epoch or 0)):
        groups.setdefault((row.method, row.epoch), []).append(row.scores)
    return {key: Scores(*np.mean(rows, axis=0).tolist()) for key, rows in groups.items()}


def scores_csv(means: Means, num_images: int) -> str:
    """`epoch,method,psnr_rgb,psnr_y,ssim_rgb,ssim_y,num_images`, a row per method and epoch."""
    rows = [
        ["" if epoch is None else epoch, method, *(f"{value:.4f}" for value in mean), num_images]
        for (method, epoch), mean in means.items()
    ]
    return _csv(["epoch", "method", *Scores._fields, "num_images"], rows)


def psnr_csv(means: Means) -> str:
    """`epoch,nearest,bicubic,srgan,hr`: mean RGB PSNR in dB, a row per epoch."""
    return _csv(["epoch", NEAREST, BICUBIC, SRGAN, HR], _psnr_rows(means, "psnr_rgb", 4))


def psnr_markdown(means: Means, protocol: dict[str, Any]) -> str:
    """The same table for people, in RGB and in Y, above the protocol."""
    lines = []
    for title, field in (("RGB", "psnr_rgb"), ("Y", "psnr_y")):
        lines += [f"PSNR in dB, {title}:", "", "| epoch | nearest | bicubic | SRGAN | HR |"]
        lines += ["|---|---|---|---|---|"]
        lines += [f"| {' | '.join(row)} |" for row in _psnr_rows(means, field, 2)]
        lines += [""]
    lines += [f"{key}: {value}  " for key, value in protocol.items()]
    return "\n".join(lines) + "\n"


def _psnr_rows(means: Means, field: str, digits: int) -> list[list[str]]:
    """A row per epoch, or one without an epoch where there is no generator."""

    def cell(method: str, epoch: int | None) -> str:
        mean = means.get((method, epoch))
        return "" if mean is None else f"{getattr(mean, field):.{digits}f}"

    epochs = [epoch for method, epoch in means if method == SRGAN] or [None]
    return [
        [
            "" if epoch is None else str(epoch),
            cell(NEAREST, None),
            cell(BICUBIC, None),
            cell(SRGAN, epoch),
            cell(HR, None),
        ]
        for epoch in epochs
    ]


def _csv(header: list[str], rows: list[list[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()
