"""The patches of each step -> tf.data of uint8 LR/HR batches."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from data_pipeline.images import Image
from data_pipeline.loading.cache import LIMIT_VARIABLE, cache_limit
from data_pipeline.loading.patch_set import PatchSet, most_open_shards
from data_pipeline.loading.sampling import (
    BatchPlan,
    Ints,
    epoch_order,
    num_windows,
    plan_batch,
    steps_per_epoch,
)
from data_pipeline.manifest import Manifest
from data_pipeline.platform.errors import UserError
from data_pipeline.platform.progress import data_size
from data_pipeline.platform.storage import LocalStorage, Storage

# Shards are opened at most this many steps before their use: seconds on the fastest GPU.
_STEPS_AHEAD = 64


class Batches:
    """What every replica of a run sees at every step: a pure function of the seed and the step.

    Attributes:
        epoch_steps: Steps of an epoch.
        scale: Super-resolution factor.
    """

    def __init__(
        self,
        patches: PatchSet,
        manifest: Manifest,
        *,
        seed: int,
        global_batch: int,
        hr_crop: int,
        permute_colours: bool = False,
        shuffle_shards: int | None = None,
    ) -> None:
        self._patches = patches
        self.scale = manifest.settings.scale
        self._crop_range = (manifest.settings.patch_size - hr_crop) // self.scale + 1
        self._seed, self._global_batch, self._hr_crop = seed, global_batch, hr_crop
        self._permute_colours = permute_colours
        self.epoch_steps = steps_per_epoch(len(patches), global_batch)
        shard_patches = [shard.patches for shard in manifest.shards]

        @lru_cache(maxsize=2)
        def order(epoch: int) -> Ints:
            return epoch_order(
                seed=seed, epoch=epoch, shard_patches=shard_patches, shuffle_shards=shuffle_shards
            )

        self._order = order
        self._steps_ahead = _steps_ahead(shard_patches, shuffle_shards, global_batch)

    def plan(self, step: int) -> BatchPlan:
        """The global batch of a step."""
        return plan_batch(
            seed=self._seed,
            step=step,
            patch_ids=self._patch_ids(step),
            crop_range=self._crop_range,
            permute_colours=self._permute_colours,
        )

    def _patch_ids(self, step: int) -> Ints:
        epoch, position = divmod(step, self.epoch_steps)
        first = position * self._global_batch
        return self._order(epoch)[first : first + self._global_batch]

    def dataset(
        self,
        *,
        start: int,
        stop: int,
        replicas: Sequence[int],
        num_replicas: int,
        endless: bool = False,
    ) -> tf.data.Dataset:
        """The batches of some replicas for the steps [start, stop).

        One call a step cuts the crops of all these replicas. Shards are opened in the background,
        before their use.

        Args:
            start: First global step.
            stop: The global step after the last.
            replicas: The replicas to serve, consecutive ones among range(num_replicas).
            num_replicas: All replicas, at most as many as the global batch has examples.
            endless: Whether the last step's elements repeat for ever, for a reader that counts.

        Returns:
            Elements (LR uint8 [b, h, w, 3], HR uint8 [b, H, W, 3]): for each step one element per
            replica, in the given order. b is global batch / num_replicas, rounded down or up. Its
            static shape is None if it differs between these replicas.
        """
        first, *borders = (
            replica * self._global_batch // num_replicas
            for replica in range(replicas[0], replicas[-1] + 2)
        )
        served = slice(first, borders[-1])
        stops = np.array(borders) - first
        starts = np.array([0, *stops[:-1]])
        sizes = set((stops - starts).tolist())
        rows = sizes.pop() if len(sizes) == 1 else None
        lr_crop = self._hr_crop // self.scale

        def load(index: npt.NDArray[np.int64]) -> tuple[Image, Image]:
            step = min(start + int(index), stop - 1)
            furthest = step + self._steps_ahead
            for ahead in range(furthest if index else step, min(furthest + 1, stop)):
                self._patches.prefetch(self._patch_ids(ahead)[served], ahead)
            plan = self.plan(step).rows(served.start, served.stop)
            return self._patches.batch(plan, hr_crop=self._hr_crop)

        def sized(lr: tf.Tensor, hr: tf.Tensor, count: int | None) -> tuple[tf.Tensor, tf.Tensor]:
            return (
                tf.ensure_shape(lr, (count, lr_crop, lr_crop, 3)),
                tf.ensure_shape(hr, (count, self._hr_crop, self._hr_crop, 3)),
            )

        def load_tensors(index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            lr, hr = tf.numpy_function(load, [index], (tf.uint8, tf.uint8))
            return sized(lr, hr, int(stops[-1]))

        def split(lr: tf.Tensor, hr: tf.Tensor) -> tf.data.Dataset:
            parts = tf.data.Dataset.from_tensor_slices((starts, stops))
            return parts.map(lambda first, last: sized(lr[first:last], hr[first:last], rows))

        elements = tf.data.Dataset.counter()
        if not endless:
            elements = elements.take(stop - start)
        elements = elements.map(load_tensors)
        if len(replicas) > 1:
            elements = elements.flat_map(split)
            if endless:  # else TensorFlow asks all workers at every step whether it ended
                infinite = tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY)
                elements = elements.apply(infinite)
        # One thread: a second one would only wait for Python's lock. tf.data would otherwise start
        # one for each core of the node.
        options = tf.data.Options()
        options.threading.private_threadpool_size = 1
        return elements.prefetch(2 * len(replicas)).with_options(options)


def _steps_ahead(
    shard_patches: Sequence[int], shuffle_shards: int | None, global_batch: int
) -> int:
    """Steps to look ahead: no further than into the window after the current one."""
    windows = num_windows(len(shard_patches), shuffle_shards)
    if windows == 1:
        return _STEPS_AHEAD
    shortest = sum(sorted(shard_patches)[: len(shard_patches) // windows]) // global_batch
    return max(0, min(_STEPS_AHEAD, shortest - 1))


def check_node_fits(storage: Storage, manifest: Manifest, shuffle_shards: int | None) -> None:
    """Refuses a data set whose shards would be opened, or downloaded, again at almost every step.

    Raises:
        UserError: If the shards that are in use together are more than a process can hold open,
            or do not fit the node's cache.
    """
    largest = sorted((shard.bytes for shard in manifest.shards), reverse=True)
    if shuffle_shards is not None:
        largest = largest[: 2 * shuffle_shards]  # at the border of two windows
    most = most_open_shards()
    if len(largest) > most:
        raise UserError(
            f"{storage.uri}: {len(largest)} shards are in use together, a process here can open "
            f"{most}; raise ulimit -n, or set batch.shuffle_shards to {most // 2}"
        )
    if isinstance(storage, LocalStorage):
        return
    needed, limit = sum(largest), cache_limit()
    if needed > limit:
        fitting = int(limit / largest[0]) // 2
        other = f", or set batch.shuffle_shards to {fitting}" if fitting else ""
        raise UserError(
            f"{storage.uri}: {data_size(needed)} of shards are in use together, the cache may "
            f"take {data_size(limit)}; raise {LIMIT_VARIABLE}{other}"
        )
