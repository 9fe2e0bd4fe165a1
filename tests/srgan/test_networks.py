import keras
import numpy as np
import pytest
import tensorflow as tf

from srgan.networks import ICNR, PixelShuffle, discriminator, generator


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


def test_generator_without_batch_norm_and_other_scales():
    network = generator(scale=2, blocks=2, filters=8, batch_norm=False)
    assert not any(isinstance(layer, keras.layers.BatchNormalization) for layer in network.layers)
    assert network(np.zeros((1, 5, 4, 3), np.float32)).shape == (1, 10, 8, 3)
    with pytest.raises(ValueError, match="power of two"):
        generator(scale=3)


def test_paper_discriminator():
    network = discriminator()
    convolutions = [layer for layer in network.layers if isinstance(layer, keras.layers.Conv2D)]
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


def test_pixel_shuffle_is_depth_to_space():
    x = np.random.default_rng(0).random((2, 3, 5, 12), np.float32)
    np.testing.assert_array_equal(PixelShuffle()(x), tf.nn.depth_to_space(x, 2))


def test_output_stays_float32_in_mixed_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        network = generator(blocks=1, filters=4, batch_norm=False)
    finally:
        keras.config.set_dtype_policy("float32")
    assert network.output.dtype == "float32"
    assert network.layers[1].compute_dtype == "bfloat16"


@pytest.mark.parametrize("icnr", [False, True])
def test_a_saved_generator_loads_in_safe_mode(icnr, tmp_path):
    network = generator(blocks=1, filters=4, icnr=icnr)
    network.save(tmp_path / "g.keras")
    loaded = keras.saving.load_model(tmp_path / "g.keras", safe_mode=True)
    lr = np.random.default_rng(0).random((1, 7, 8, 3), np.float32)
    np.testing.assert_array_equal(loaded(lr), network(lr))


def test_icnr_begins_as_nearest_neighbour_upscaling():
    """The first sub-pixel stage of a new network makes blocks of 2x2 equal values."""
    network = generator(scale=2, blocks=1, filters=8, batch_norm=False, icnr=True)
    shuffle = next(layer for layer in network.layers if isinstance(layer, PixelShuffle))
    features = keras.Model(network.input, shuffle.output)
    found = np.asarray(features(np.random.default_rng(1).random((1, 5, 6, 3), np.float32)))
    assert found.std() > 1e-3
    np.testing.assert_array_equal(found, found[:, ::2, ::2].repeat(2, axis=1).repeat(2, axis=2))


def test_icnr_draws_as_glorot_does_for_the_channels_that_remain():
    kernel = np.asarray(ICNR(seed=3)((3, 3, 16, 64), dtype="float32"))
    expected = np.asarray(keras.initializers.GlorotUniform(seed=3)((3, 3, 16, 16)))
    np.testing.assert_array_equal(kernel, np.tile(expected, (1, 1, 1, 4)))
