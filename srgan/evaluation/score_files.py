"""The stored scores of an evaluation: a file for the baselines and a file for each generator.

A file is written once, whole, and holds all images. So two evaluations at the same time, or one
that is killed, leave nothing to undo. Every table is made from these files.
"""

import io
import json
from collections.abc import Collection
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from data_pipeline.platform.errors import UserError
from data_pipeline.platform.storage import Storage, read_many
from srgan.evaluation.measures import MEASURES, taken
from srgan.evaluation.table import ImageScore

SCORES = "scores/"
BASELINES = "baselines"

_PROTOCOL, _GENERATOR, _SCORED = b"protocol", b"generator_sha256", b"scored"
_SCHEMA = pa.schema(
    [
        pa.field("epoch", pa.int32()),
        pa.field("method", pa.string(), nullable=False),
        pa.field("image", pa.string(), nullable=False),
        *(pa.field(measure.key, pa.float64()) for measure in MEASURES),
    ]
)


class ScoreFile(NamedTuple):
    """The scores of all images by the baselines or by one generator.

    Attributes:
        name: `baselines`, `srresnet` or `epoch-0025`.
        protocol: How they were made.
        generator_sha256: The sha256 of the generator's file; "" for the baselines.
        scores: In the order of the images.
        scored: When they were made, in UTC: `2026-01-31T03:12:45Z`; "" in files of older versions.
    """

    name: str
    protocol: dict[str, Any]
    generator_sha256: str
    scores: list[ImageScore]
    scored: str = ""


def read_score_files(out: Storage) -> dict[str, ScoreFile]:
    """All score files of an evaluation, by name.

    Raises:
        UserError: If one is damaged.
    """
    keys = [item.key for item in out.list(SCORES) if item.key.endswith(".parquet")]
    found = (_parse(out, key, data) for key, data in read_many(out, keys).items())
    return {file.name: file for file in found}


def write_score_file(out: Storage, file: ScoreFile) -> None:
    """Writes a score file, whole or not at all."""
    metadata = {
        _PROTOCOL: json.dumps(file.protocol),
        _GENERATOR: file.generator_sha256,
        _SCORED: file.scored,
    }
    out.write(f"{SCORES}{file.name}.parquet", _to_parquet(file.scores, metadata))


def images_parquet(files: Collection[ScoreFile], protocol: dict[str, Any]) -> bytes:
    """The scores of all files in one table; a measure that is absent is null."""
    scores = [score for file in files for score in file.scores]
    generators = {file.name: file.generator_sha256 for file in files if file.generator_sha256}
    return _to_parquet(
        scores, {_PROTOCOL: json.dumps(protocol), b"generators": json.dumps(generators)}
    )


def _to_parquet(scores: list[ImageScore], metadata: dict[bytes, str]) -> bytes:
    rows = [
        {"epoch": row.epoch, "method": row.method, "image": row.image, **row.values}
        for row in scores
    ]
    buffer = io.BytesIO()
    table = pa.Table.from_pylist(rows, _SCHEMA.with_metadata(metadata))
    pq.write_table(table, buffer, write_page_checksum=True, write_statistics=False)
    return buffer.getvalue()


def _parse(out: Storage, key: str, data: bytes) -> ScoreFile:
    try:
        stored = pq.read_table(pa.BufferReader(data), page_checksum_verification=True)
        metadata = stored.schema.metadata or {}
        protocol = json.loads(metadata[_PROTOCOL])
        generator_sha256 = metadata[_GENERATOR].decode()
        scored = metadata.get(_SCORED, b"").decode()
        # A file of an older version may lack measures, which its protocol lacks too.
        optional = {measure.key for measure in MEASURES if measure.title not in protocol}
        absent = optional - set(stored.column_names)
        fields = [field for field in _SCHEMA if field.name not in absent]
        rows = stored.select([field.name for field in fields]).cast(pa.schema(fields)).to_pylist()
        scores = [
            ImageScore(row.pop("epoch"), row.pop("method"), row.pop("image"), taken(**row))
            for row in rows
        ]
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise UserError(f"{out.uri}/{key}: is damaged; delete it to score again") from error
    name = key.removeprefix(SCORES).removesuffix(".parquet")
    return ScoreFile(name, protocol, generator_sha256, scores, scored)
