"""A data set's training patches by id: crops out of mapped shards, opened before their use."""

import os
import resource
import threading
from bisect import bisect_right
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import accumulate, permutations

import cv2
import numpy as np

from data_pipeline.images import Image
from data_pipeline.loading.cache import cache_limit, map_shard
from data_pipeline.loading.sampling import BatchPlan, Ints
from data_pipeline.manifest import Manifest
from data_pipeline.platform.storage import LocalStorage, Storage
from data_pipeline.shards import ShardReader
from data_pipeline.shards.formats import open_shard

# Threads that download. Of those that check local shards, each keeps a core busy.
_DOWNLOADS = 8
_SPARED_HANDLES = 256
_MAX_HANDLES = 60_000  # a Linux process has at most 65,530 maps

_COLOUR_ORDERS = tuple(permutations(range(3)))


class PatchSet:
    """Random access to patches. Thread-safe.

    `map_shard` opens a shard and verifies it, in the background if `prefetch` named it in time. The
    shard stays open until too many shards are open or the cache needs room. Then the one with the
    longest past known use is closed.

    Attributes:
        failure: The error of a shard, for a caller that sees only an error of tf.data.
    """

    def __init__(self, storage: Storage, manifest: Manifest) -> None:
        self.failure: Exception | None = None
        self._storage = storage
        self._manifest = manifest
        self._ends = list(accumulate(shard.patches for shard in manifest.shards))
        is_local = isinstance(storage, LocalStorage)
        self._max_bytes = manifest.train_bytes if is_local else cache_limit()
        self._max_open = most_open_shards()
        self._opener = ThreadPoolExecutor(
            min(_DOWNLOADS, os.cpu_count() or 1) if is_local else _DOWNLOADS, "open-shard"
        )
        self._lock = threading.Lock()
        self._open: dict[int, Future[ShardReader]] = {}
        self._needed: dict[int, int] = {}  # of an open shard: the last step known to use it
        self._open_bytes = 0

    def __len__(self) -> int:
        return self._manifest.num_patches

    def prefetch(self, patch_ids: Ints, step: int) -> None:
        """Starts to open the shards of a step's patches, in the given order."""
        numbers = (bisect_right(self._ends, patch_id) for patch_id in patch_ids.tolist())
        for number in dict.fromkeys(numbers):
            self._request(number, step)

    def pair(self, patch_id: int) -> tuple[Image, Image]:
        """Views of a patch: HR uint8 [P, P, 3] and LR uint8 [P / scale, P / scale, 3].

        Raises:
            DamagedShardError: If its shard is not what the manifest says.
        """
        number = bisect_right(self._ends, patch_id)  # ten times numpy's speed for one number
        first = self._ends[number] - self._manifest.shards[number].patches
        return self._request(number, 0).result().pair(patch_id - first)

    def _request(self, number: int, step: int) -> Future[ShardReader]:
        with self._lock:
            if number not in self._open:
                size = self._manifest.shards[number].bytes
                while self._open and (
                    len(self._open) >= self._max_open or self._open_bytes + size > self._max_bytes
                ):
                    past = min(self._open, key=self._needed.__getitem__)
                    del self._open[past], self._needed[past]
                    self._open_bytes -= self._manifest.shards[past].bytes
                self._open[number] = self._opener.submit(self._read, number)
                self._open_bytes += size
            self._needed[number] = max(step, self._needed.get(number, 0))
            return self._open[number]

    def _read(self, number: int) -> ShardReader:
        shard, settings = self._manifest.shards[number], self._manifest.settings
        try:
            content = map_shard(self._storage, shard)
            return open_shard(settings.format, content, settings.geometry, shard.offsets)
        except Exception as error:
            self.failure = error
            raise

    def batch(self, plan: BatchPlan, *, hr_crop: int) -> tuple[Image, Image]:
        """Cuts and augments the crops of a plan.

        Args:
            plan: Which crops, n rows.
            hr_crop: HR crop side in pixels, a multiple of the scale.

        Returns:
            LR uint8 [n, hr_crop / scale, hr_crop / scale, 3] and HR uint8
            [n, hr_crop, hr_crop, 3], aligned.

        Raises:
            DamagedShardError: As `pair`.
        """
        scale = self._manifest.settings.scale
        lr_crop = hr_crop // scale
        count = len(plan.patch_ids)
        lr_batch = np.empty((count, lr_crop, lr_crop, 3), np.uint8)
        hr_batch = np.empty((count, hr_crop, hr_crop, 3), np.uint8)
        rows = zip(*(field.tolist() for field in plan), strict=True)
        for row, (patch_id, top, left, flip, turns, colours) in enumerate(rows):
            hr, lr = self.pair(patch_id)
            for image, factor, batch in ((lr, 1, lr_batch), (hr, scale, hr_batch)):
                y, x, side = top * factor, left * factor, lr_crop * factor
                _augment(image[y : y + side, x : x + side], flip, turns, batch[row])
                if colours:
                    batch[row] = batch[row][:, :, _COLOUR_ORDERS[colours]]
        return lr_batch, hr_batch


_TURNS = {
    1: cv2.ROTATE_90_COUNTERCLOCKWISE,
    2: cv2.ROTATE_180,
    3: cv2.ROTATE_90_CLOCKWISE,
}


def _augment(crop: Image, flip: int, turns: int, out: Image) -> None:
    """Mirrors left to right, then turns counter-clockwise. OpenCV is many times numpy's speed.

    Args:
        crop: uint8 [H, H, 3].
        flip: 1 to mirror, else 0.
        turns: Quarter turns, 0 to 3.
        out: Gets the result: a contiguous array of the crop's shape.
    """
    if flip:
        # A flip and a half turn are a flip of the other axis, with a quarter turn a transpose.
        if turns % 2:
            cv2.transpose(crop, out)
            if turns == 3:
                cv2.flip(out, -1, out)
        else:
            cv2.flip(crop, 1 if turns == 0 else 0, out)
    elif turns:
        cv2.rotate(crop, _TURNS[turns], out)
    else:
        out[:] = crop


def most_open_shards() -> int:
    """How many shards this process can hold open. Each takes a file handle and a memory map.

    Raises the usual limit of 1,024 handles as far as the process may.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MAX_HANDLES if hard == resource.RLIM_INFINITY else min(hard, _MAX_HANDLES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted - _SPARED_HANDLES
