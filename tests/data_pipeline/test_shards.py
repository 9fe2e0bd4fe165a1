import mmap

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from data_pipeline.patches import Patch
from data_pipeline.shards import Geometry
from data_pipeline.shards.formats import open_shard, shard_writer

GEOMETRY = Geometry(16, 4)


def patches(count: int, seed: int) -> list[Patch]:
    draw = np.random.default_rng(seed)
    return [
        Patch(
            number,
            2 * number,
            draw.integers(0, 256, (16, 16, 3), np.uint8),
            draw.integers(0, 256, (4, 4, 3), np.uint8),
        )
        for number in range(count)
    ]


def written_shard(shard_format, path):
    """Writes a shard of 3 + 1 + 2 patches; returns the patches and the writer's offsets."""
    groups = [patches(3, 1), patches(1, 2), patches(2, 3)]
    with shard_writer(shard_format, path, GEOMETRY) as writer:
        for number, group in enumerate(groups):
            writer.write(f"folder/image{number}", group)
    return [patch for group in groups for patch in group], tuple(writer.offsets)


@pytest.mark.parametrize("shard_format", ["arrow", "tfrecord"])
def test_every_patch_reads_back(shard_format, tmp_path):
    path = tmp_path / "shard"
    written, offsets = written_shard(shard_format, path)
    with path.open("rb") as file:
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    reader = open_shard(shard_format, content, GEOMETRY, offsets)
    assert len(reader) == 6
    for index in (5, 0, 3, 1, 4, 2):
        hr, lr = reader.pair(index)
        np.testing.assert_array_equal(hr, written[index].hr)
        np.testing.assert_array_equal(lr, written[index].lr)


def test_arrow_is_readable_by_any_arrow_program(tmp_path):
    path = tmp_path / "shard"
    written, _ = written_shard("arrow", path)
    rows = pa.ipc.open_file(str(path)).read_all().to_pylist()
    assert [row["image"] for row in rows] == [f"folder/image{n}" for n in (0, 0, 0, 1, 2, 2)]
    assert rows[5]["hr"] == written[5].hr.tobytes()
    assert (rows[5]["top"], rows[5]["left"]) == (1, 2)


def test_tfrecord_is_readable_by_any_tensorflow_program(tmp_path):
    path = tmp_path / "shard"
    written, _ = written_shard("tfrecord", path)
    features = {
        "image": tf.io.FixedLenFeature([], tf.string),
        "top": tf.io.FixedLenFeature([], tf.int64),
        "left": tf.io.FixedLenFeature([], tf.int64),
        "hr": tf.io.FixedLenFeature([], tf.string),
        "lr": tf.io.FixedLenFeature([], tf.string),
    }
    records = [
        tf.io.parse_single_example(record, features)
        for record in tf.data.TFRecordDataset(str(path))
    ]
    assert len(records) == 6
    assert records[2]["hr"].numpy() == written[2].hr.tobytes()
    assert records[4]["image"].numpy() == b"folder/image2"
