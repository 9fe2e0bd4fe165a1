import numpy as np
import pytest

from data_pipeline.loading.sampling import epoch_order, plan_batch, steps_per_epoch

SETTINGS = {
    "seed": 7,
    "num_patches": 53,
    "global_batch": 8,
    "crop_range": 13,
    "permute_colours": True,
}


def plan_of(step, *, seed, num_patches, global_batch, **settings):
    """The plan of a step of a data set of one shard."""
    epoch, position = divmod(step, steps_per_epoch(num_patches, global_batch))
    order = epoch_order(seed=seed, epoch=epoch, shard_patches=[num_patches])
    patch_ids = order[position * global_batch : (position + 1) * global_batch]
    return plan_batch(seed=seed, step=step, patch_ids=patch_ids, **settings)


def same(one, other) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_step_is_always_the_same_whatever_came_before():
    forward = [plan_of(step=step, **SETTINGS) for step in range(20)]
    backward = [plan_of(step=step, **SETTINGS) for step in reversed(range(20))]
    assert all(same(*pair) for pair in zip(forward, reversed(backward), strict=True))


def test_the_sequence_never_changes():
    """Golden values: a run begun with an older version of the program must go on the same."""
    plan = plan_of(step=9, **SETTINGS)
    assert plan.patch_ids.tolist() == [49, 48, 31, 50, 47, 19, 36, 22]
    assert plan.tops.tolist() == [2, 12, 5, 0, 12, 6, 1, 5]
    assert plan.lefts.tolist() == [0, 6, 4, 5, 4, 5, 5, 7]
    assert plan.flips.tolist() == [1, 0, 0, 1, 1, 0, 1, 1]
    assert plan.turns.tolist() == [2, 1, 0, 1, 1, 1, 0, 3]
    assert plan.colours.tolist() == [2, 3, 2, 0, 3, 2, 4, 4]


def test_an_epoch_repeats_no_patch_and_epochs_differ():
    steps = steps_per_epoch(53, 8)
    assert steps == 6
    epochs = [
        np.concatenate(
            [plan_of(step=epoch * steps + step, **SETTINGS).patch_ids for step in range(steps)]
        )
        for epoch in range(3)
    ]
    for ids in epochs:
        assert len(set(ids)) == 48
        assert 0 <= ids.min() <= ids.max() < 53
    assert not np.array_equal(epochs[0], epochs[1])


def test_draws_are_uniform():
    settings = SETTINGS | {"num_patches": 4000, "global_batch": 4000}
    plan = plan_of(step=0, **settings)
    fields = (
        (plan.tops, 13),
        (plan.lefts, 13),
        (plan.flips, 2),
        (plan.turns, 4),
        (plan.colours, 6),
    )
    for values, count in fields:
        expected = 4000 / count
        observed = np.bincount(values, minlength=count)
        assert len(observed) == count
        chi_square = ((observed - expected) ** 2 / expected).sum()
        assert chi_square < 35  # p < 0.001 for 12 degrees of freedom is 32.9
    assert abs(np.corrcoef(plan.tops, plan.lefts)[0, 1]) < 0.05


def test_seeds_and_steps_differ():
    base = plan_of(step=3, **SETTINGS)
    assert not same(base, plan_of(step=4, **SETTINGS))
    assert not same(base, plan_of(step=3, **(SETTINGS | {"seed": 8})))


def test_rows_are_slices():
    plan = plan_of(step=2, **SETTINGS)
    halves = [plan.rows(0, 4), plan.rows(4, 8)]
    joined = [np.concatenate(fields) for fields in zip(*halves, strict=True)]
    assert same(joined, plan)


def test_too_few_patches_are_refused():
    with pytest.raises(ValueError, match="7 patches are fewer than one global batch of 8"):
        steps_per_epoch(7, 8)


def test_colours_stay_unless_they_are_to_be_permuted():
    plain = plan_of(step=9, **(SETTINGS | {"permute_colours": False}))
    permuted = plan_of(step=9, **SETTINGS)
    assert not plain.colours.any()
    assert same(plain, permuted._replace(colours=plain.colours))


SHARDS = [5, 9, 1, 12, 7, 3, 8, 8]


def shards_of(order):
    return np.searchsorted(np.cumsum(SHARDS), order, side="right")


def test_shuffling_over_all_shards_does_not_depend_on_where_they_end():
    whole = epoch_order(seed=7, epoch=2, shard_patches=[sum(SHARDS)])
    np.testing.assert_array_equal(whole, epoch_order(seed=7, epoch=2, shard_patches=SHARDS))
    wide = epoch_order(seed=7, epoch=2, shard_patches=SHARDS, shuffle_shards=8)
    np.testing.assert_array_equal(whole, wide)


@pytest.mark.parametrize(("window", "sizes"), [(1, [1] * 8), (3, [3, 3, 2]), (5, [4, 4])])
def test_windows_hold_whole_shards_and_every_patch_once(window, sizes):
    orders = [
        epoch_order(seed=7, epoch=epoch, shard_patches=SHARDS, shuffle_shards=window)
        for epoch in (0, 1)
    ]
    for order in orders:
        assert sorted(order) == list(range(sum(SHARDS)))
        visited = list(dict.fromkeys(shards_of(order).tolist()))  # by first use
        start = 0
        for size in sizes:
            members, visited = visited[:size], visited[size:]
            patches = sum(SHARDS[shard] for shard in members)
            assert set(shards_of(order[start : start + patches])) == set(members)
            start += patches
    assert list(shards_of(orders[0])) != list(shards_of(orders[1]))
    assert not np.array_equal(orders[0], np.sort(orders[0]))
