from unittest import mock

import numpy as np
import pytest
import tensorflow as tf

from data_pipeline.imresize import imresize
from data_pipeline.loading.dataset import Batches
from data_pipeline.loading.patch_set import PatchSet
from data_pipeline.manifest import require_manifest
from data_pipeline.platform.storage import open_storage

GLOBAL_BATCH = 8


def open_batches(folder) -> tuple[PatchSet, Batches]:
    storage = open_storage(str(folder))
    manifest = require_manifest(storage)
    patches = PatchSet(storage, manifest)
    return patches, Batches(patches, manifest, seed=3, global_batch=GLOBAL_BATCH, hr_crop=32)


def test_colour_orders_are_the_same_in_hr_and_lr(small_data):
    patches, batches = open_batches(small_data)
    plan = batches.plan(0)
    permuted = plan._replace(colours=np.arange(8) % 6)
    orders = [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]
    for plain, found in zip(
        patches.batch(plan, hr_crop=32), patches.batch(permuted, hr_crop=32), strict=True
    ):
        for row in range(8):
            np.testing.assert_array_equal(found[row], plain[row][:, :, orders[row % 6]])


def elements(batches: Batches, start: int, stop: int, replicas, num_replicas: int):
    dataset = batches.dataset(start=start, stop=stop, replicas=replicas, num_replicas=num_replicas)
    return list(dataset.as_numpy_iterator())


def test_crops_are_aligned_and_augmented_alike(small_data):
    """A crop's LR is its HR shrunk, wherever the kernel does not reach over the crop's border."""
    patches, batches = open_batches(small_data)
    plan = batches.plan(5)
    assert plan.flips.any()
    assert plan.turns.any()
    lr, hr = patches.batch(plan, hr_crop=32)
    assert (lr.shape, hr.shape) == ((8, 8, 8, 3), (8, 32, 32, 3))
    for small, large in zip(lr, hr, strict=True):
        np.testing.assert_allclose(
            imresize(large, 0.25)[2:-2, 2:-2].astype(int), small[2:-2, 2:-2], atol=1
        )


def test_flip_comes_before_the_turn(small_data):
    patches, batches = open_batches(small_data)
    plan = batches.plan(0)
    turned = plan._replace(flips=np.ones(8, np.int64), turns=np.full(8, 1))
    plain = plan._replace(flips=np.zeros(8, np.int64), turns=np.zeros(8, np.int64))
    _, expected = patches.batch(plain, hr_crop=32)
    _, found = patches.batch(turned, hr_crop=32)
    np.testing.assert_array_equal(found[0], np.rot90(expected[0][:, ::-1]))


def test_global_batches_are_equal_for_one_and_two_replicas_and_after_a_resume(small_data):
    _, batches = open_batches(small_data)
    whole = elements(batches, 0, 12, [0], 1)  # crosses into the second epoch
    assert len(whole) == 12
    both = elements(batches, 0, 12, [0, 1], 2)
    halves = [
        np.concatenate([one[1], other[1]]) for one, other in zip(both[::2], both[1::2], strict=True)
    ]
    workers = [elements(batches, 0, 12, [rank], 2) for rank in (0, 1)]
    joined = [np.concatenate([one[1], other[1]]) for one, other in zip(*workers, strict=True)]
    resumed = whole[:7] + elements(batches, 7, 12, [0], 1)
    for step in range(12):
        np.testing.assert_array_equal(whole[step][1], halves[step])
        np.testing.assert_array_equal(whole[step][1], joined[step])
        np.testing.assert_array_equal(whole[step][0], resumed[step][0])
        np.testing.assert_array_equal(whole[step][1], resumed[step][1])


def test_replicas_that_do_not_divide_the_global_batch_share_it_all(small_data):
    """8 examples on 3 replicas, two of them in one worker: 2, 3 and 3."""
    _, batches = open_batches(small_data)
    whole = elements(batches, 2, 4, [0], 1)
    first, second = elements(batches, 2, 4, [0], 3), elements(batches, 2, 4, [1, 2], 3)
    assert [len(hr) for _, hr in second[:2]] == [3, 3]
    for step in (0, 1):
        for part in (0, 1):  # LR, HR
            parts = [one[part] for one in (first[step], *second[2 * step : 2 * step + 2])]
            np.testing.assert_array_equal(np.concatenate(parts), whole[step][part])
    for replicas, rows in (([0], 2), ([1], 3), ([1, 2], 3), ([0, 1, 2], None)):
        dataset = batches.dataset(start=2, stop=4, replicas=replicas, num_replicas=3)
        shapes = [tuple(spec.shape) for spec in dataset.element_spec]
        assert shapes == [(rows, 8, 8, 3), (rows, 32, 32, 3)]
        assert dataset.options().threading.private_threadpool_size == 1  # for any node's cores


@pytest.mark.parametrize(
    ("replicas", "num_replicas", "sizes"),
    [([0], 1, [8]), ([0, 1, 2, 3], 4, [2, 2, 2, 2]), ([2, 3, 4], 5, [1, 2, 2])],
)
def test_one_call_a_step_serves_all_replicas(small_data, replicas, num_replicas, sizes):
    """8 examples on 5 replicas: 1, 2, 1, 2 and 2."""
    patches, batches = open_batches(small_data)
    with mock.patch.object(patches, "batch", wraps=patches.batch) as batch:
        found = elements(batches, 0, 3, replicas, num_replicas)
    assert [len(hr) for _, hr in found] == 3 * sizes
    assert [len(call.args[0].patch_ids) for call in batch.call_args_list] == 3 * [sum(sizes)]


@pytest.mark.parametrize("replicas", [range(2), range(2, 5)])
def test_an_endless_dataset_of_several_replicas_is_known_to_be_endless(small_data, replicas):
    """Else workers with several GPUs ask each other at every step whether it ended."""
    _, batches = open_batches(small_data)
    dataset = batches.dataset(start=0, stop=2, replicas=replicas, num_replicas=5, endless=True)
    assert dataset.cardinality() == tf.data.INFINITE_CARDINALITY


def test_an_endless_dataset_ends_with_its_last_step_again_and_again(small_data):
    _, batches = open_batches(small_data)
    dataset = batches.dataset(start=2, stop=4, replicas=[0], num_replicas=1, endless=True)
    assert dataset.cardinality().numpy() == -1  # infinite
    found = list(dataset.take(5).as_numpy_iterator())
    expected = elements(batches, 2, 4, [0], 1)
    for step, element in enumerate(found):
        np.testing.assert_array_equal(element[1], expected[min(step, 1)][1])
