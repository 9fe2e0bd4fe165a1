"""TFRecord shards of tf.train.Example. Any TensorFlow program reads them; we read them in place.

Features: image (bytes), top and left (int64), hr and lr (raw uint8 bytes).
"""

import mmap
from pathlib import Path

import numpy as np
import tensorflow as tf

from data_pipeline.images import Image
from data_pipeline.patches import Patch
from data_pipeline.shards import Geometry

# A record is its length (8 bytes), the length's CRC (4), the data, the data's CRC (4).
_HEADER = 12
_FOOTER = 4


class TFRecordShardWriter:
    """Writes one tf.train.Example per patch and records the byte offsets of its pixels."""

    def __init__(self, path: Path, geometry: Geometry) -> None:
        self._sizes = (geometry.hr_size**2 * 3, geometry.lr_size**2 * 3)
        self._writer = tf.io.TFRecordWriter(str(path))
        self._position = 0
        self.offsets: list[tuple[int, int]] = []

    def __enter__(self) -> "TFRecordShardWriter":
        return self

    def __exit__(self, *error: object) -> None:
        self._writer.close()

    def write(self, image_name: str, patches: list[Patch]) -> None:
        """See ShardWriter."""
        for patch in patches:
            hr, lr = patch.hr.tobytes(), patch.lr.tobytes()
            if (len(hr), len(lr)) != self._sizes:
                raise ValueError(f"expected patches of {self._sizes} bytes, got {len(hr), len(lr)}")
            features = {
                "image": _bytes_feature(image_name.encode()),
                "top": _int_feature(patch.top),
                "left": _int_feature(patch.left),
                "hr": _bytes_feature(hr),
                "lr": _bytes_feature(lr),
            }
            example = tf.train.Example(features=tf.train.Features(feature=features))
            record = example.SerializeToString(deterministic=True)
            start = self._position + _HEADER
            # Any place with these bytes is right: they are the patch's pixels.
            self.offsets.append((start + record.index(hr), start + record.index(lr)))
            self._writer.write(record)
            self._position = start + len(record) + _FOOTER


class TFRecordShardReader:
    """Zero-copy views into a TFRecord file's content, by the manifest's offsets."""

    def __init__(
        self, content: mmap.mmap, geometry: Geometry, offsets: tuple[tuple[int, int], ...]
    ) -> None:
        self._content = content
        self._sizes = geometry
        self._offsets = offsets

    def __len__(self) -> int:
        return len(self._offsets)

    def pair(self, index: int) -> tuple[Image, Image]:
        """See ShardReader."""
        hr, lr = (
            np.ndarray((size, size, 3), np.uint8, self._content, start)
            for start, size in zip(self._offsets[index], self._sizes, strict=True)
        )
        return hr, lr


def _bytes_feature(value: bytes) -> tf.train.Feature:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))


def _int_feature(value: int) -> tf.train.Feature:
    return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
