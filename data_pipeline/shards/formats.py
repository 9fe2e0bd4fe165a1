"""The reader and the writer of each shard format."""

import mmap
from pathlib import Path

from data_pipeline.shards import Geometry, ShardFormat, ShardReader, ShardWriter
from data_pipeline.shards.arrow import ArrowShardReader, ArrowShardWriter


def shard_writer(shard_format: ShardFormat, path: Path, geometry: Geometry) -> ShardWriter:
    """Starts a shard file at `path`."""
    if shard_format == "arrow":
        return ArrowShardWriter(path, geometry)
    from data_pipeline.shards.tfrecord import TFRecordShardWriter  # TensorFlow takes seconds

    return TFRecordShardWriter(path, geometry)


def open_shard(
    shard_format: ShardFormat,
    content: mmap.mmap,
    geometry: Geometry,
    offsets: tuple[tuple[int, int], ...],
) -> ShardReader:
    """Reads a finished shard. The reader and the patches that it returns keep `content` alive.

    Args:
        shard_format: The shard's format.
        content: The whole file.
        geometry: Sides of the patches.
        offsets: Those of the shard's record in the manifest.
    """
    if shard_format == "arrow":
        return ArrowShardReader(content, geometry)
    from data_pipeline.shards.tfrecord import TFRecordShardReader

    return TFRecordShardReader(content, geometry, offsets)
