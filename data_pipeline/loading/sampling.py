"""(seed, step) -> which patches, crops, flips and turns make the global batch. Pure numpy, no I/O.

The data position of a run is its step: nothing else has to be saved to resume. All draws come
from the raw 64-bit output of Philox, which numpy guarantees never to change (NEP 19), and not
from `Generator` methods, which it may.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

_PERMUTATION_STREAM = 0
_CROP_STREAM = 1
_SHARD_STREAM = 2


class BatchPlan(NamedTuple):
    """One global batch, or a slice of it. Every field is int64 [batch].

    Attributes:
        patch_ids: Indices into the data set's patches.
        tops: Crop's upper edge in LR pixels.
        lefts: Crop's left edge in LR pixels.
        flips: 1 where the crop is mirrored left to right (before the turn), else 0.
        turns: Quarter turns counter-clockwise, 0 to 3.
        colours: Order of the colour channels, 0 to 5; 0 leaves RGB as it is.
    """

    patch_ids: Ints
    tops: Ints
    lefts: Ints
    flips: Ints
    turns: Ints
    colours: Ints

    def rows(self, start: int, stop: int) -> "BatchPlan":
        """The batch's rows [start, stop): a replica's slice."""
        return BatchPlan(*(field[start:stop] for field in self))


def steps_per_epoch(num_patches: int, global_batch: int) -> int:
    """Steps of one epoch: patches / global batch, the rest of each epoch's order dropped.

    Raises:
        ValueError: If the data set holds less than one global batch.
    """
    if num_patches < global_batch:
        raise ValueError(f"{num_patches} patches are fewer than one global batch of {global_batch}")
    return num_patches // global_batch


def epoch_order(
    *, seed: int, epoch: int, shard_patches: Sequence[int], shuffle_shards: int | None = None
) -> Ints:
    """The order in which an epoch visits a data set's patches, each once.

    Args:
        seed: The run's seed, 0 or greater.
        epoch: From 0.
        shard_patches: Patches of every shard; patch ids count through the shards.
        shuffle_shards: Shuffle within windows of at most so many shards, drawn anew for every
            epoch and of nearly equal size, so that a node's cache needs to hold only twice as
            many. None shuffles over all.

    Returns:
        [sum(shard_patches)]: a permutation of the patch ids.
    """
    draws = _raw(seed, _PERMUTATION_STREAM, epoch, sum(shard_patches))
    if shuffle_shards is None:
        return np.argsort(draws, kind="stable").astype(np.int64)
    count = len(shard_patches)
    shard_draws = _raw(seed, _SHARD_STREAM, epoch, count)
    ranks = np.argsort(np.argsort(shard_draws, kind="stable"))
    windows = ranks * num_windows(count, shuffle_shards) // count
    return np.lexsort((draws, np.repeat(windows, shard_patches))).astype(np.int64)


def num_windows(num_shards: int, shuffle_shards: int | None) -> int:
    """Windows of an epoch: as few as hold at most `shuffle_shards` shards each."""
    return -(-num_shards // (shuffle_shards or num_shards))


def plan_batch(
    *,
    seed: int,
    step: int,
    order: Ints,
    global_batch: int,
    crop_range: int,
    permute_colours: bool,
) -> BatchPlan:
    """The global batch of a step, a pure function of its arguments.

    Within an epoch no patch is drawn twice.

    Args:
        seed: The run's seed, 0 or greater.
        step: The global step, from 0.
        order: `epoch_order` of the step's epoch.
        global_batch: Examples per step over all replicas.
        crop_range: Number of possible crop offsets per axis: LR patch - LR crop + 1.
        permute_colours: Draws an order of the colour channels; else they stay RGB.

    Returns:
        The plan, `global_batch` rows.
    """
    first = step % steps_per_epoch(len(order), global_batch) * global_batch
    raw = _raw(seed, _CROP_STREAM, step, global_batch * 4).reshape(4, global_batch)
    symmetry = (raw[2] % np.uint64(8)).astype(np.int64)
    return BatchPlan(
        patch_ids=order[first : first + global_batch],
        tops=(raw[0] % np.uint64(crop_range)).astype(np.int64),
        lefts=(raw[1] % np.uint64(crop_range)).astype(np.int64),
        flips=symmetry // 4,
        turns=symmetry % 4,
        colours=(raw[3] % np.uint64(6 if permute_colours else 1)).astype(np.int64),
    )


def _raw(seed: int, stream: int, index: int, count: int) -> npt.NDArray[np.uint64]:
    """`count` uint64 draws of an independent stream for every (seed, stream, index)."""
    # The counter's low word advances with each draw; the index sits above it.
    counter = np.array([0, index, 0, 0], np.uint64)
    key = np.array([seed, stream], np.uint64)
    return np.asarray(np.random.Philox(counter=counter, key=key).random_raw(count), np.uint64)
