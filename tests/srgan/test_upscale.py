"""Images through a generator, whole and in tiles; stored generators, loaded and taken over."""

import keras
import numpy as np
import pytest

from data_pipeline.platform.errors import UserError
from data_pipeline.platform.storage import open_storage
from srgan.generator_file import load_weights, save_generator
from srgan.networks import generator
from srgan.tiles import in_tiles
from srgan.upscale import bands, super_resolve
from tests.conftest import photograph


def test_the_weights_of_a_stored_generator_are_taken_over(tmp_path):
    storage = open_storage(str(tmp_path))
    stored, other = (generator(blocks=1, filters=4) for _ in range(2))
    save_generator(stored, storage, "generators/pretrain.keras")
    load_weights(other, storage, "generators/pretrain.keras", "it")
    for one, two in zip(stored.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        ({"filters": 8}, "is a generator of another size or form than the"),
        ({"filters": 4, "global_skip": True}, "is a generator of another size or form than the"),
        ({"filters": 4, "direct_upsampling": True}, "is a generator of another size or form than"),
        ({"filters": 4, "scale": 2}, "is a generator of x2, and the data set has x4; pass another"),
    ],
)
def test_a_generator_that_does_not_fit_is_refused_and_changes_nothing(stored, message, tmp_path):
    storage = open_storage(str(tmp_path))
    save_generator(generator(blocks=1, **stored), storage, "g.keras")
    other = generator(blocks=1, filters=4)
    before = other.get_weights()
    with pytest.raises(UserError, match=rf"run/g\.keras: {message}"):
        load_weights(other, storage, "g.keras", "run/g.keras")
    for one, two in zip(before, other.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_super_resolve_rounds_to_the_nearest_level():
    """By a network that doubles the contrast: half of its values are beyond [-1, 1]."""
    image = keras.Input((None, None, 3))
    network = keras.Model(image, keras.layers.Rescaling(4, -2.01)(image))
    lr = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    values = lr / np.float64(255) * 4 - 2.01
    expected = np.clip(np.floor((values + 1) * 127.5 + 0.5), 0, 255)
    sr = super_resolve(network, lr)
    assert (sr.min(), sr.max()) == (0, 255)
    np.testing.assert_array_equal(sr, expected)


def network_in(dtype: str, scale: int, **options: bool) -> keras.Model:
    """A generator with batch normalisation that sees 10 LR pixels far; the same in each dtype."""
    keras.utils.set_random_seed(1)
    weights = generator(scale=scale, blocks=1, filters=8, **options).get_weights()
    keras.config.set_dtype_policy(dtype)
    try:
        network = generator(scale=scale, blocks=1, filters=8, **options)
    finally:
        keras.config.set_dtype_policy("float32")
    network.set_weights(weights)
    draw = np.random.default_rng(0)
    for weight in network.weights:
        if "gamma" in weight.path or "moving_variance" in weight.path:
            weight.assign(draw.uniform(0.5, 2, weight.shape).astype(np.float32))
    return network


@pytest.mark.parametrize(
    ("scale", "shape", "options"),
    [
        (2, (129, 150), {}),
        (3, (140, 131), {}),
        (4, (300, 451), {}),
        (4, (96, 300), {"global_skip": True}),
        (4, (129, 64), {}),
        (8, (131, 60), {}),
        (2, (131, 49), {"global_skip": True, "direct_upsampling": True}),
        (3, (141, 131), {"direct_upsampling": True}),
        (4, (299, 173), {"global_skip": True, "direct_upsampling": True}),
        (8, (131, 61), {"global_skip": True, "direct_upsampling": True}),
    ],
)
def test_tiles_equal_the_whole_image(scale, shape, options, monkeypatch):
    """In float64, before levels are rounded: there no seam hides behind the rounding of sums.

    1e-6 holds on every machine: a running error analysis of this network (Higham 2002, section
    3.3) bounds the effect of any order of summation by 1e-7. A halo one pixel too small changes
    the result by 2e-3.

    The float32 levels are the nearest to the float64 values up to 0.01 level, which is 1,300
    float32 roundings; 10 were seen. So levels are at most one apart, in tiles or without.
    """
    lr = photograph("chelsea.png")[: shape[0], : shape[1]]
    monkeypatch.setattr("srgan.upscale._TRUNK_TILE", 128)
    monkeypatch.setattr("srgan.upscale._TAIL_TILE", 48 * scale)
    levels = super_resolve(network_in("float32", scale, **options), lr)
    monkeypatch.setattr("srgan.upscale._levels", lambda sr, dtype: sr)
    network = network_in("float64", scale, **options)
    tiled = super_resolve(network, lr)
    monkeypatch.setattr("srgan.upscale._TAIL_TILE", 1000 * scale)
    whole = super_resolve(network, lr)
    assert whole.dtype == np.float64
    assert whole.shape == (scale * shape[0], scale * shape[1], 3)
    assert levels.std() > 5
    assert np.abs(tiled - whole).max() < 1e-6
    assert np.abs(levels - np.clip((whole + 1) * 127.5, 0, 255)).max() < 0.51


@pytest.mark.parametrize(
    ("dtype", "network", "options"),
    [
        (np.uint8, {}, {}),
        (np.uint16, {"batch_norm": False}, {}),
        (np.uint16, {}, {"self_ensemble": True}),
        (np.uint8, {"batch_norm": False}, {"colour_fix": True}),
        (np.uint16, {"direct_upsampling": True}, {"self_ensemble": True, "colour_fix": True}),
    ],
)
def test_bands_equal_the_whole_image(dtype, network, options, monkeypatch):
    """In float64, as above, and in float32 at most a level apart (8 bit) or ten (16 bit)."""
    lr = photograph("chelsea.png")[:75, :90].astype(dtype)
    lr = lr * 257 if dtype == np.uint16 else lr
    rounded, exact = (network_in(one, 2, **network) for one in ("float32", "float64"))
    monkeypatch.setattr("srgan.upscale._TAIL_TILE", 2 * 40)
    sizes = []
    for band_bytes, trunk_tile in ((1 << 30, 1000), (1 << 30, 64), (50_000, 64)):
        monkeypatch.setattr("srgan.upscale._BAND_BYTES", band_bytes)
        monkeypatch.setattr("srgan.upscale._TRUNK_TILE", trunk_tile)
        found = list(bands(rounded, lr, **options))
        with monkeypatch.context() as patch:
            patch.setattr("srgan.upscale._levels", lambda sr, dtype: sr)
            values = np.concatenate(list(bands(exact, lr, **options)))
        sizes.append(len(found))
        sr = np.concatenate(found)
        if trunk_tile == 1000:
            whole, whole_values = sr, values
        assert sr.dtype == dtype
        assert sr.shape == (150, 180, 3)
        assert np.abs(values - whole_values).max() < 1e-6
        assert np.abs(sr.astype(int) - whole).max() <= (1 if dtype == np.uint8 else 10)
    assert sizes[0] == 1 < sizes[1] <= sizes[2]
    most = np.iinfo(dtype).max
    off = np.abs(whole - np.clip((whole_values + 1) * most / 2, 0, most))
    assert off.max() < (0.51 if dtype == np.uint8 else 10)
    assert whole.std() > most / 50


def test_the_ensemble_is_rounded_once():
    """By a network that is not equivariant: the mean of eight, by hand."""
    network = network_in("float32", 2)
    lr = np.ascontiguousarray(photograph("chelsea.png")[:20, :31])
    total = np.zeros((40, 62, 3))
    for turns in range(4):
        for flip in (1, -1):
            seen = np.rot90(lr[:, ::flip], turns) / np.float32(255)
            made = np.asarray(network(seen[None]))[0].astype(float)
            total += np.rot90(made, -turns)[:, ::flip]
    (sr,) = bands(network, lr, self_ensemble=True)
    assert np.abs(sr - np.clip((total / 8 + 1) * 127.5, 0, 255)).max() < 0.51
    assert np.mean(sr != super_resolve(network, lr)) > 0.5


def test_levels_of_16_bits_are_rounded_to_the_nearest():
    image = keras.Input((None, None, 3))
    network = keras.Model(image, keras.layers.Rescaling(4, -2.01)(image))
    lr = np.arange(0, 1 << 16, 257, dtype=np.uint16).repeat(3).reshape(16, 16, 3)
    (sr,) = bands(network, lr)
    values = (lr / 65535 * 4 - 2.01 + 1) * 32767.5
    assert sr.dtype == np.uint16
    assert (sr.min(), sr.max()) == (0, 65535)
    assert np.abs(sr - np.clip(values, 0, 65535)).max() < 0.51


@pytest.mark.parametrize("side", [40, 64, 97])
@pytest.mark.parametrize("shape", [(300, 200), (64, 129), (40, 40), (1, 500)])
def test_tiles_see_a_halo_around_what_is_kept(shape, side):
    """A pixel of a box filter is right where the window has all its neighbours."""
    halo = 10
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3))
    windows = []

    def sums(window):
        windows.append(window.shape)
        wide = np.pad(window, ((halo, halo), (halo, halo), (0, 0)))
        steps = [
            np.roll(wide, shift, axis)[halo:-halo, halo:-halo]
            for axis in (0, 1)
            for shift in (-halo, halo)
        ]
        return np.sum(steps, axis=0).repeat(2, axis=0).repeat(2, axis=1)

    expected = sums(image)
    windows.clear()
    np.testing.assert_array_equal(in_tiles(sums, image, halo=halo, side=side), expected)
    assert max(max(window[:2]) for window in windows) <= side
    assert len(set(windows)) == 1  # one graph, one choice of algorithms


def test_a_large_image_and_an_unknown_layer_are_refused():
    image = keras.Input((None, None, 3))
    network = keras.Model(image, keras.layers.ReLU()(image), name="other")
    with pytest.raises(UserError, match="other: has a layer ReLU: cannot upscale a large"):
        super_resolve(network, np.zeros((513, 8, 3), np.uint8))


@pytest.mark.parametrize("direct", [False, True])
def test_images_of_several_sizes_one_after_the_other(direct):
    """TensorFlow makes a graph for one size, then one for all: both give what each alone gives."""
    options = {"blocks": 1, "filters": 4, "global_skip": True, "direct_upsampling": direct}
    network = generator(**options)
    weights = network.get_weights()
    for height, width in ((8, 8), (9, 7), (12, 30), (8, 8)):
        lr = photograph("chelsea.png")[:height, :width]
        alone = generator(**options)
        alone.set_weights(weights)
        found = super_resolve(network, lr).astype(int)
        assert found.std() > 5
        assert np.abs(found - super_resolve(alone, lr)).max() <= 1
