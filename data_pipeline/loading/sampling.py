"""(seed, step) -> which patches, crops, flips and turns make the global batch. Pure numpy, no I/O.

The data position of a run is its step: a resume needs nothing else. All draws are raw 64-bit output
of Philox, which numpy guarantees never to change (NEP 19). The methods of `Generator` may change.
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
    """A global batch, or a slice of it. Every field is int64 [batch].

    Attributes:
        patch_ids: Indices into the data set's patches.
        tops: The crop's upper edge in LR pixels.
        lefts: The crop's left edge in LR pixels.
        flips: 1 where the crop is mirrored left to right, else 0. The flip comes before the turn.
        turns: Quarter turns counter-clockwise, 0 to 3.
        colours: Number of the order of the colour channels, 0 to 5; 0 keeps RGB.
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
    """Steps of one epoch: patches / global batch, rounded down.

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
        shuffle_shards: Shuffles within windows of at most this many shards. Every epoch draws its
            windows anew, of nearly equal size. A node's cache then needs room for two windows.
            None shuffles over all shards.

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
    """Windows of an epoch: the fewest that hold at most `shuffle_shards` shards each."""
    return -(-num_shards // (shuffle_shards or num_shards))


def plan_batch(
    *, seed: int, step: int, patch_ids: Ints, crop_range: int, permute_colours: bool
) -> BatchPlan:
    """The global batch of a step, a pure function of its arguments.

    Args:
        seed: The run's seed, 0 or greater.
        step: The global step, from 0.
        patch_ids: The step's patches: its part of `epoch_order`.
        crop_range: Number of possible crop offsets per axis: LR patch - LR crop + 1.
        permute_colours: Whether an order of the colour channels is drawn; else they stay RGB.

    Returns:
        The plan, a row for every patch id.
    """
    raw = _raw(seed, _CROP_STREAM, step, 4 * len(patch_ids)).reshape(4, -1)
    symmetry = (raw[2] % np.uint64(8)).astype(np.int64)
    return BatchPlan(
        patch_ids=patch_ids,
        tops=(raw[0] % np.uint64(crop_range)).astype(np.int64),
        lefts=(raw[1] % np.uint64(crop_range)).astype(np.int64),
        flips=symmetry // 4,
        turns=symmetry % 4,
        colours=(raw[3] % np.uint64(6 if permute_colours else 1)).astype(np.int64),
    )


def _raw(seed: int, stream: int, index: int, count: int) -> npt.NDArray[np.uint64]:
    """`count` uint64 draws. Every (seed, stream, index) has an independent stream of draws."""
    # Each draw advances the counter's lowest word; the index is in the next word.
    counter = np.array([0, index, 0, 0], np.uint64)
    key = np.array([seed, stream], np.uint64)
    return np.asarray(np.random.Philox(counter=counter, key=key).random_raw(count), np.uint64)
