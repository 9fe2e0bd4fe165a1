"""What an evaluation remembers: a file of per-image scores for the baselines and each generator.

Each is written once, whole, and holds all images; two evaluations at once, or one that is killed,
leave nothing that has to be undone. Every table is made from these files.
"""

import io
import json
from collections.abc import Iterable
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from data_pipeline.platform.errors import UserError
from data_pipeline.platform.storage import Storage, read_many
from srgan.evaluation.measures import MEASURES
from srgan.evaluation.table import ImageScore

SCORES = "scores/"
BASELINES = "baselines"

_PROTOCOL, _GENERATOR = b"protocol", b"generator_sha256"
_SCHEMA = pa.schema(
    [
        pa.field("epoch", pa.int32()),
        pa.field("method", pa.string(), nullable=False),
        pa.field("image", pa.string(), nullable=False),
        *(pa.field(measure.key, pa.float64()) for measure in MEASURES),
    ]
)


class ScoreSet(NamedTuple):
    """The scores of all images by the baselines or by one generator.

    Attributes:
        name: `baselines`, `srresnet` or `epoch-0025`.
        protocol: How they were made.
        generator: sha256 of the generator's file; "" for the baselines.
        scores: In the order of the images.
    """

    name: str
    protocol: dict[str, Any]
    generator: str
    scores: list[ImageScore]


def read_score_sets(out: Storage) -> dict[str, ScoreSet]:
    """All that are there, by name.

    Raises:
        UserError: If one is damaged.
    """
    keys = [item.key for item in out.list(SCORES) if item.key.endswith(".parquet")]
    found = (_parse(out, key, data) for key, data in read_many(out, keys).items())
    return {one.name: one for one in found}


def write_score_set(out: Storage, one: ScoreSet) -> None:
    """Writes one, whole or not at all."""
    metadata = {_PROTOCOL: json.dumps(one.protocol), _GENERATOR: one.generator}
    out.write(f"{SCORES}{one.name}.parquet", _to_parquet(one.scores, metadata))


def images_parquet(sets: Iterable[ScoreSet], protocol: dict[str, Any]) -> bytes:
    """The scores of all of them in one table, nulls where a measure is absent."""
    scores = [score for one in sets for score in one.scores]
    generators = {one.name: one.generator for one in sets if one.generator}
    return _to_parquet(
        scores, {_PROTOCOL: json.dumps(protocol), b"generators": json.dumps(generators)}
    )


def generator_name(epoch: int) -> str:
    """Names the scores and pictures of an epoch's generator."""
    return f"epoch-{epoch:04}"


def _to_parquet(scores: list[ImageScore], metadata: dict[bytes, str]) -> bytes:
    rows = [
        {"epoch": row.epoch, "method": row.method, "image": row.image, **row.values}
        for row in scores
    ]
    buffer = io.BytesIO()
    table = pa.Table.from_pylist(rows, _SCHEMA.with_metadata(metadata))
    pq.write_table(table, buffer, write_page_checksum=True)
    return buffer.getvalue()


def _parse(out: Storage, key: str, data: bytes) -> ScoreSet:
    try:
        stored = pq.read_table(pa.BufferReader(data), page_checksum_verification=True)
        metadata = stored.schema.metadata or {}
        protocol = json.loads(metadata[_PROTOCOL])
        generator = metadata[_GENERATOR].decode()
        rows = stored.cast(_SCHEMA).to_pylist()
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise UserError(f"{out.uri}/{key}: is damaged; delete it to score again") from error
    scores = [
        ImageScore(
            row.pop("epoch"),
            row.pop("method"),
            row.pop("image"),
            {name: value for name, value in row.items() if value is not None},
        )
        for row in rows
    ]
    name = key.removeprefix(SCORES).removesuffix(".parquet")
    return ScoreSet(name, protocol, generator, scores)
