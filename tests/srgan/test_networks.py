import re
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf

from srgan.generator_file import architecture
from srgan.networks import ICNR, PixelShuffle, discriminator, generator, scale_of
from srgan.spectral import SpectralConv2D

ALL = {"prelu_slope": 0.1, "direct_upsampling": True, "global_skip": True, "icnr": True}


def convolutions_of(network: keras.Model) -> list[keras.layers.Conv2D]:
    return [layer for layer in network.layers if isinstance(layer, keras.layers.Conv2D)]


def test_paper_generator():
    """Parameters by hand: convolutions with biases, PReLU per channel, BN with four per channel."""
    network = generator()
    block = 2 * (64 * 64 * 9 + 64) + 2 * 4 * 64 + 64
    expected = (
        (3 * 64 * 81 + 64 + 64)
        + 16 * block
        + (64 * 64 * 9 + 64 + 4 * 64)
        + 2 * (64 * 256 * 9 + 256 + 64)
        + (64 * 3 * 81 + 3)
    )
    assert network.count_params() == expected
    lr = np.random.default_rng(0).random((2, 6, 9, 3), np.float32)
    sr = network(lr)
    assert sr.shape == (2, 24, 36, 3)
    assert float(keras.ops.max(keras.ops.abs(sr))) <= 1


def test_generator_without_batch_norm():
    network = generator(blocks=2, filters=8, batch_norm=False)
    assert not any(isinstance(layer, keras.layers.BatchNormalization) for layer in network.layers)


@pytest.mark.parametrize(("scale", "factors"), [(2, [2]), (3, [3]), (4, [2, 2]), (8, [2, 2, 2])])
@pytest.mark.parametrize("direct", [False, True])
def test_sub_pixel_stages_of_each_scale(scale, factors, direct):
    """The paper's, of 4 feature maps; or one, which makes the 3 colours."""
    network = generator(scale=scale, blocks=1, filters=4, direct_upsampling=direct)
    stages = [layer for layer in network.layers if isinstance(layer, PixelShuffle)]
    channels = [3 * scale**2] if direct else [4 * factor**2 for factor in factors]
    assert [stage.factor for stage in stages] == ([scale] if direct else factors)
    assert [stage.input.shape[-1] for stage in stages] == channels
    assert scale_of(network) == scale
    assert network.output_shape == (None, None, None, 3)
    assert network(np.zeros((1, 5, 4, 3), np.float32)).shape == (1, 5 * scale, 4 * scale, 3)


def test_direct_upsampling_by_hand():
    """Parameters; and SR is the tanh of the last convolution, whose channels become pixels."""
    network = generator(blocks=2, filters=8, batch_norm=False, direct_upsampling=True)
    convolutions = (3 * 8 * 81 + 8) + 5 * (8 * 8 * 9 + 8) + (8 * 48 * 9 + 48)
    assert network.count_params() == convolutions + 3 * 8  # PReLU's slopes
    last = convolutions_of(network)[-1]
    lr = np.random.default_rng(0).random((1, 5, 6, 3), np.float32)
    before = keras.Model(network.input, last.output)(lr)
    expected = np.tanh(np.asarray(tf.nn.depth_to_space(before, 4)))
    np.testing.assert_allclose(network(lr), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("slope", [None, 0.0, 0.1])
def test_the_slopes_of_prelu_begin_as_told(slope):
    network = generator(blocks=1, filters=4, **({} if slope is None else {"prelu_slope": slope}))
    slopes = [one.alpha for one in network.layers if isinstance(one, keras.layers.PReLU)]
    assert len(slopes) == 4
    for one in slopes:
        np.testing.assert_array_equal(
            one, np.full(one.shape, 0.25 if slope is None else slope, "f")
        )


def bilinear(image: np.ndarray, scale: int, axis: int) -> np.ndarray:
    """Pixels' centres lie at (i + 0.5) / scale; at the edges the last pixel goes on."""
    length = image.shape[axis]
    at = (np.arange(length * scale) + 0.5) / scale - 0.5
    left = np.floor(at).astype(int)
    weights = np.expand_dims(at - left, tuple(range(1, image.ndim - axis)))
    one, other = (image.take(side.clip(0, length - 1), axis) for side in (left, left + 1))
    return one * (1 - weights) + other * weights


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
@pytest.mark.parametrize("direct", [False, True])
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "float64"])
def test_the_global_skip_is_bilinear_upscaling(scale, direct, policy):
    """What is left when the last convolution gives 0. bfloat16 would be off by 2e-3."""
    keras.config.set_dtype_policy(policy)
    try:
        network = generator(
            scale=scale, blocks=1, filters=4, global_skip=True, direct_upsampling=direct
        )
    finally:
        keras.config.set_dtype_policy("float32")
    for variable in convolutions_of(network)[-1].variables:
        variable.assign(np.zeros(variable.shape))
    lr = np.random.default_rng(0).random((2, 5, 7, 3), np.float32)
    found = np.asarray(network(lr))
    assert found.dtype == ("float64" if policy == "float64" else "float32")
    expected = 2 * bilinear(bilinear(lr.astype(np.float64), scale, 1), scale, 2) - 1
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_the_global_skip_adds_what_the_last_convolution_gives():
    network = generator(blocks=1, filters=4, global_skip=True)
    last = convolutions_of(network)[-1]
    lr = np.random.default_rng(0).random((1, 5, 6, 3), np.float32)
    with_it = np.asarray(network(lr))
    added = np.asarray(keras.Model(network.input, last.output)(lr))
    for variable in last.variables:
        variable.assign(np.zeros(variable.shape))
    assert np.abs(added).max() > 0.01
    np.testing.assert_allclose(with_it, np.asarray(network(lr)) + added, atol=1e-6)


@pytest.mark.parametrize("scale", [-4, 0, 1, 5, 6, 16])
def test_another_scale_is_refused(scale):
    with pytest.raises(ValueError, match=rf"one of \(2, 3, 4, 8\), got {scale}"):
        generator(scale=scale)


def test_paper_discriminator():
    network = discriminator()
    convolutions = convolutions_of(network)
    assert [layer.filters for layer in convolutions] == [64, 64, 128, 128, 256, 256, 512, 512]
    assert [layer.strides[0] for layer in convolutions] == [1, 2] * 4
    norms = [
        layer for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)
    ]
    assert len(norms) == 7
    dense = [layer.units for layer in network.layers if isinstance(layer, keras.layers.Dense)]
    assert dense == [1024, 1]
    logits = network(np.zeros((2, 96, 96, 3), np.float32))
    assert logits.shape == (2, 1)
    assert network.layers[-1].activation is keras.activations.linear


def test_small_discriminator():
    network = discriminator(hr_crop=32, filters=8, dense=16, batch_norm=False)
    assert network(np.zeros((1, 32, 32, 3), np.float32)).shape == (1, 1)


@pytest.mark.parametrize(("side", "logits"), [(96, 24), (48, 12), (18, 5)])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_patch_discriminator(side, logits, batch_norm):
    """Parameters by hand, and a logit for every fourth pixel."""
    network = discriminator(hr_crop=side, filters=4, batch_norm=batch_norm, patch=True)
    shapes = [(3, 3, 4), (4, 4, 8), (4, 8, 16), (3, 16, 32), (3, 32, 1)]
    expected = sum(size**2 * inputs * outputs + outputs for size, inputs, outputs in shapes)
    assert network.count_params() == expected + batch_norm * 4 * (8 + 16 + 32)
    assert network(np.zeros((2, side, side, 3), np.float32)).shape == (2, logits, logits, 1)
    assert network.layers[-1].activation is keras.activations.linear


def test_a_patch_discriminators_logit_sees_28_pixels():
    """By its gradient: a square, whose place moves by 4 pixels from logit to logit."""
    network = discriminator(hr_crop=64, filters=4, batch_norm=False, patch=True)
    image = tf.constant(np.random.default_rng(0).normal(size=(1, 64, 64, 3)).astype(np.float32))
    for y, x in ((4, 4), (5, 9), (11, 6)):
        with tf.GradientTape() as tape:
            tape.watch(image)
            logit = network(image)[0, y, x, 0]
        seen = np.any(tape.gradient(logit, image)[0] != 0, axis=2)
        top, left = 4 * y - 12, 4 * x - 12
        assert seen[top : top + 28, left : left + 28].all()
        assert seen.sum() == 28**2


@pytest.mark.parametrize(("patch", "count"), [(False, 8), (True, 4)])
def test_spectral_normalisation_is_of_all_convolutions_before_the_logits(patch, count):
    options = {"hr_crop": 32, "filters": 4, "dense": 8, "patch": patch}
    plain, network = (discriminator(**options, spectral_norm=one) for one in (False, True))
    normalised = [isinstance(layer, SpectralConv2D) for layer in convolutions_of(network)]
    assert normalised == [True] * count + [False] * patch
    assert not any(isinstance(layer, SpectralConv2D) for layer in plain.layers)
    assert [one.shape for one in network.variables] == [one.shape for one in plain.variables]


@pytest.mark.parametrize("factor", [2, 3])
def test_pixel_shuffle_is_depth_to_space(factor):
    """Pixel (r * y + i, r * x + j) has the channels from (r * i + j) * C on of LR's (y, x)."""
    x = np.random.default_rng(0).random((2, 3, 5, 2 * factor**2), np.float32)
    found = np.asarray(PixelShuffle(factor)(x))
    np.testing.assert_array_equal(found, tf.nn.depth_to_space(x, factor))
    for row, column in np.ndindex(factor, factor):
        first = 2 * (factor * row + column)
        np.testing.assert_array_equal(
            found[:, row::factor, column::factor], x[..., first : first + 2]
        )
    assert PixelShuffle(factor).compute_output_shape(x.shape) == found.shape
    assert PixelShuffle().factor == 2


def test_output_stays_float32_in_mixed_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        network = generator(blocks=1, filters=4, batch_norm=False)
    finally:
        keras.config.set_dtype_policy("float32")
    assert network.output.dtype == "float32"
    assert network.layers[1].compute_dtype == "bfloat16"


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
@pytest.mark.parametrize("options", [{}, {"icnr": True}, {"global_skip": True}, ALL])
def test_a_saved_generator_loads_in_safe_mode(scale, options, tmp_path):
    network = generator(scale=scale, blocks=1, filters=4, **options)
    network.save(tmp_path / "g.keras")
    loaded = keras.saving.load_model(tmp_path / "g.keras", safe_mode=True)
    lr = np.random.default_rng(0).random((1, 7, 8, 3), np.float32)
    np.testing.assert_array_equal(loaded(lr), network(lr))
    assert scale_of(loaded) == scale
    assert architecture(loaded) == architecture(network)


@pytest.mark.parametrize("icnr", [False, True])
def test_a_generator_of_older_versions_loads(icnr, tmp_path):
    """Their files name no factor."""
    network = generator(blocks=1, filters=4, icnr=icnr)
    network.save(tmp_path / "new.keras")
    with (
        zipfile.ZipFile(tmp_path / "new.keras") as new,
        zipfile.ZipFile(tmp_path / "old.keras", "w") as old,
    ):
        for name in new.namelist():
            data, count = re.subn(rb'"factor": 2(, )?', b"", new.read(name))
            assert count == (2 + 2 * icnr if name == "config.json" else 0)
            old.writestr(name, data.replace(b", }", b"}"))
    loaded = keras.saving.load_model(tmp_path / "old.keras", safe_mode=True)
    assert architecture(loaded) == architecture(network)
    lr = np.random.default_rng(0).random((1, 7, 8, 3), np.float32)
    np.testing.assert_array_equal(loaded(lr), network(lr))


@pytest.mark.parametrize(("factor", "direct"), [(2, False), (3, False), (2, True), (8, True)])
def test_icnr_begins_as_nearest_neighbour_upscaling(factor, direct):
    """The first sub-pixel stage of a new network makes squares of equal values."""
    network = generator(
        scale=factor, blocks=1, filters=8, batch_norm=False, icnr=True, direct_upsampling=direct
    )
    shuffle = next(layer for layer in network.layers if isinstance(layer, PixelShuffle))
    features = keras.Model(network.input, shuffle.output)
    found = np.asarray(features(np.random.default_rng(1).random((1, 5, 6, 3), np.float32)))
    assert found.std() > 1e-3
    corners = found[:, ::factor, ::factor]
    np.testing.assert_array_equal(found, corners.repeat(factor, axis=1).repeat(factor, axis=2))


@pytest.mark.parametrize(("options", "copies"), [({}, 4), ({"factor": 3}, 9)])
def test_icnr_draws_as_glorot_does_for_the_channels_that_remain(options, copies):
    kernel = np.asarray(ICNR(**options, seed=3)((3, 3, 16, 16 * copies), dtype="float32"))
    expected = np.asarray(keras.initializers.GlorotUniform(seed=3)((3, 3, 16, 16)))
    np.testing.assert_array_equal(kernel, np.tile(expected, (1, 1, 1, copies)))
