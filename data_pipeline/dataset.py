"""Sampling + shards -> tf.data of uint8 LR/HR batches."""

from collections.abc import Sequence
from itertools import permutations

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from data_pipeline.manifest import Manifest, ShardRecord, file_sha256
from data_pipeline.sampling import BatchPlan, plan_batch
from data_pipeline.shards import ShardReader
from data_pipeline.shards.formats import open_shard
from data_pipeline.storage import Storage

Image = npt.NDArray[np.uint8]

_PARALLEL_BATCHES = 2
_COLOUR_ORDERS = tuple(permutations(range(3)))


class DamagedShardError(Exception):
    """A shard that is missing or is not what the manifest says."""


class PatchSet:
    """A data set's training patches, by id, read from memory-mapped shards."""

    def __init__(self, storage: Storage, manifest: Manifest) -> None:
        self._storage = storage
        self._manifest = manifest
        self._ends = np.cumsum([shard.patches for shard in manifest.shards])
        self._readers: dict[int, ShardReader] = {}

    def __len__(self) -> int:
        return self._manifest.num_patches

    def verify(self) -> None:
        """Compares every shard with the manifest.

        Raises:
            DamagedShardError: Naming the shard, what was expected and what was found.
        """
        for shard in self._manifest.shards:
            self._verify_shard(shard)

    def _verify_shard(self, shard: ShardRecord) -> None:
        where = f"{self._storage.uri}/{shard.path}"
        mend = "run the same jobs.prepare command again to restore it"
        size = self._storage.size(shard.path)
        if size is None:
            raise DamagedShardError(f"{where}: is missing; {mend}")
        if size != shard.bytes:
            raise DamagedShardError(f"{where}: expected {shard.bytes} bytes, found {size}; {mend}")
        found = file_sha256(self._storage.local_path(shard.path))
        if found != shard.sha256:
            raise DamagedShardError(
                f"{where}: expected sha256 {shard.sha256}, found {found}; "
                "delete it and run the same jobs.prepare command again"
            )

    def pair(self, patch_id: int) -> tuple[Image, Image]:
        """Views of a patch: HR uint8 [P, P, 3] and LR uint8 [P / scale, P / scale, 3]."""
        number = int(np.searchsorted(self._ends, patch_id, side="right"))
        first = int(self._ends[number]) - self._manifest.shards[number].patches
        return self._reader(number).pair(patch_id - first)

    def _reader(self, number: int) -> ShardReader:
        if number not in self._readers:
            shard = self._manifest.shards[number]
            self._readers[number] = open_shard(
                self._manifest.settings.format,
                self._storage.local_path(shard.path),
                self._manifest.settings.geometry,
                shard.offsets,
            )
        return self._readers[number]

    def batch(self, plan: BatchPlan, *, hr_crop: int) -> tuple[Image, Image]:
        """Cuts and augments the crops of a plan.

        Args:
            plan: Which crops, n rows.
            hr_crop: HR crop side in pixels, a multiple of the scale.

        Returns:
            LR uint8 [n, hr_crop / scale, hr_crop / scale, 3] and HR uint8
            [n, hr_crop, hr_crop, 3], aligned.
        """
        scale = self._manifest.settings.scale
        lr_crop = hr_crop // scale
        count = len(plan.patch_ids)
        lr_batch = np.empty((count, lr_crop, lr_crop, 3), np.uint8)
        hr_batch = np.empty((count, hr_crop, hr_crop, 3), np.uint8)
        for row, (patch_id, top, left, flip, turns, colours) in enumerate(zip(*plan, strict=True)):
            hr, lr = self.pair(int(patch_id))
            for image, factor, batch in ((lr, 1, lr_batch), (hr, scale, hr_batch)):
                y, x, side = top * factor, left * factor, lr_crop * factor
                crop = image[y : y + side, x : x + side]
                batch[row] = _augment(crop, bool(flip), int(turns), _COLOUR_ORDERS[colours])
        return lr_batch, hr_batch


def _augment(crop: Image, flip: bool, turns: int, colours: tuple[int, ...]) -> Image:
    turned = np.rot90(crop[:, ::-1] if flip else crop, turns)
    return turned if colours == _COLOUR_ORDERS[0] else turned[:, :, colours]


class Batches:
    """The run's batches: what every replica sees at every step, a pure function of the seed."""

    def __init__(
        self,
        patches: PatchSet,
        manifest: Manifest,
        *,
        seed: int,
        global_batch: int,
        hr_crop: int,
        permute_colours: bool = False,
    ) -> None:
        self._patches = patches
        self._scale = manifest.settings.scale
        self._crop_range = (manifest.settings.patch_size - hr_crop) // self._scale + 1
        self._seed, self._global_batch, self._hr_crop = seed, global_batch, hr_crop
        self._permute_colours = permute_colours

    def plan(self, step: int) -> BatchPlan:
        """The global batch of a step."""
        return plan_batch(
            seed=self._seed,
            step=step,
            num_patches=len(self._patches),
            global_batch=self._global_batch,
            crop_range=self._crop_range,
            permute_colours=self._permute_colours,
        )

    def dataset(
        self, *, start: int, stop: int, replicas: Sequence[int], num_replicas: int
    ) -> tf.data.Dataset:
        """Batches of some replicas, for the steps [start, stop).

        Args:
            start: First global step.
            stop: Global step to end before.
            replicas: The replicas to serve, among range(num_replicas).
            num_replicas: All replicas; divides the global batch.

        Returns:
            Elements (LR uint8 [b, h, w, 3], HR uint8 [b, H, W, 3]) with b = global batch /
            num_replicas: for each step one element per replica, in the given order.
        """
        rows = self._global_batch // num_replicas
        lr_crop = self._hr_crop // self._scale

        def load(index: npt.NDArray[np.int64]) -> tuple[Image, Image]:
            step, position = divmod(int(index), len(replicas))
            first = replicas[position] * rows
            plan = self.plan(start + step).rows(first, first + rows)
            return self._patches.batch(plan, hr_crop=self._hr_crop)

        def load_tensors(index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            lr, hr = tf.numpy_function(load, [index], (tf.uint8, tf.uint8))
            return (
                tf.ensure_shape(lr, (rows, lr_crop, lr_crop, 3)),
                tf.ensure_shape(hr, (rows, self._hr_crop, self._hr_crop, 3)),
            )

        elements = tf.data.Dataset.range((stop - start) * len(replicas))
        loaded = elements.map(
            load_tensors, num_parallel_calls=_PARALLEL_BATCHES, deterministic=True
        )
        return loaded.prefetch(2 * len(replicas))
