"""Arrow IPC shards: raw pixels in binary columns of a fixed size, read in place."""

import mmap
from bisect import bisect_right
from itertools import accumulate
from pathlib import Path

import numpy as np
import pyarrow as pa

from data_pipeline.images import Image
from data_pipeline.patches import Patch
from data_pipeline.shards import Geometry


class ArrowShardWriter:
    """Writes an Arrow IPC file with the columns image, top, left, hr and lr."""

    def __init__(self, path: Path, geometry: Geometry) -> None:
        self.offsets: list[tuple[int, int]] = []  # an Arrow file holds its own index
        self._schema = pa.schema(
            [
                ("image", pa.string()),
                ("top", pa.int32()),
                ("left", pa.int32()),
                ("hr", pa.binary(geometry.hr_size**2 * 3)),
                ("lr", pa.binary(geometry.lr_size**2 * 3)),
            ]
        )
        self._sink = pa.OSFile(str(path), "wb")
        self._writer = pa.ipc.new_file(self._sink, self._schema)

    def __enter__(self) -> "ArrowShardWriter":
        return self

    def __exit__(self, *error: object) -> None:
        self._writer.close()
        self._sink.close()

    def write(self, image_name: str, patches: list[Patch]) -> None:
        """See ShardWriter."""
        columns = [
            pa.array([image_name] * len(patches), pa.string()),
            pa.array([patch.top for patch in patches], pa.int32()),
            pa.array([patch.left for patch in patches], pa.int32()),
            self._pixels("hr", [patch.hr for patch in patches]),
            self._pixels("lr", [patch.lr for patch in patches]),
        ]
        self._writer.write_batch(pa.record_batch(columns, schema=self._schema))

    def _pixels(self, column: str, patches: list[Image]) -> pa.Array:
        buffers = [None, pa.py_buffer(np.stack(patches))]
        return pa.Array.from_buffers(self._schema.field(column).type, len(patches), buffers)


class ArrowShardReader:
    """Zero-copy views into an Arrow IPC file's content."""

    def __init__(self, content: mmap.mmap, geometry: Geometry) -> None:
        hr_shape = (-1, geometry.hr_size, geometry.hr_size, 3)
        lr_shape = (-1, geometry.lr_size, geometry.lr_size, 3)
        file = pa.ipc.open_file(pa.py_buffer(content))
        self._batches: list[tuple[Image, Image]] = []
        for number in range(file.num_record_batches):
            batch = file.get_batch(number)
            hr, lr = (
                np.frombuffer(batch.column(name).buffers()[1], np.uint8) for name in ("hr", "lr")
            )
            self._batches.append((hr.reshape(hr_shape), lr.reshape(lr_shape)))
        self._ends = list(accumulate(len(hr) for hr, _ in self._batches))

    def __len__(self) -> int:
        return self._ends[-1]

    def pair(self, index: int) -> tuple[Image, Image]:
        """See ShardReader."""
        number = bisect_right(self._ends, index)
        hr, lr = self._batches[number]
        row = index - self._ends[number]  # negative: counted from the batch's end
        return hr[row], lr[row]
