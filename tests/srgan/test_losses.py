import numpy as np
import pytest
from keras import ops

from srgan import losses


@pytest.fixture
def pair():
    return np.random.default_rng(0).uniform(-1, 1, (2, 3, 8, 6, 3))


def test_pixel_losses_are_means_per_image(pair):
    hr, sr = pair
    squares = [np.mean((one - other) ** 2) for one, other in zip(hr, sr, strict=True)]
    np.testing.assert_allclose(losses.pixel_mse(hr, sr), squares, rtol=1e-12)
    distances = [np.mean(np.abs(one - other)) for one, other in zip(hr, sr, strict=True)]
    np.testing.assert_allclose(losses.pixel_l1(hr, sr), distances, rtol=1e-12)


def test_content_is_the_mean_over_positions_and_channels(pair):
    hr, sr = pair
    np.testing.assert_allclose(losses.content(hr, sr), losses.pixel_mse(hr, sr), rtol=1e-12)


@pytest.mark.parametrize("logit", [-3.0, 0.0, 0.7, 2.5])
def test_adversarial_losses_are_the_logarithms_of_the_paper(logit):
    hr, sr = np.array([[1.3], [-0.4]]), np.array([[logit], [-logit]])

    def probability(logits):
        return 1 / (1 + np.exp(-logits[:, 0]))

    np.testing.assert_allclose(losses.adversarial(sr), -np.log(probability(sr)), rtol=1e-12)
    expected = -np.log(probability(hr)) - np.log(1 - probability(sr))
    np.testing.assert_allclose(losses.discriminator(hr, sr), expected, rtol=1e-12)


def test_adversarial_losses_stay_finite_for_a_sure_discriminator():
    sure = np.array([[-1000.0]])
    np.testing.assert_allclose(losses.adversarial(sure), [1000.0])
    np.testing.assert_allclose(losses.discriminator(sure, -sure), [2000.0])


def test_a_map_of_logits_counts_as_its_mean():
    """And an image's only logit stays as it is, every bit."""
    hr, sr = np.random.default_rng(1).normal(size=(2, 3, 4, 5, 1)).astype(np.float32)
    for loss, maps in ((losses.adversarial, (sr,)), (losses.discriminator, (hr, sr))):
        each = np.stack([loss(*(one[:, y, x] for one in maps)) for y, x in np.ndindex(4, 5)])
        np.testing.assert_allclose(loss(*maps), each.mean(0), rtol=1e-6)
    one, other = hr[:, 0, 0], sr[:, 0, 0]  # [N, 1]
    np.testing.assert_array_equal(losses.adversarial(other), ops.softplus(-other)[:, 0])
    np.testing.assert_array_equal(
        losses.discriminator(one, other), (ops.softplus(-one) + ops.softplus(other))[:, 0]
    )


def test_total_variation():
    image = np.zeros((1, 2, 3, 3))
    image[0, 1] = 0.5  # one step down at every column, none to the right
    np.testing.assert_allclose(losses.total_variation(image), [0.5])
    np.testing.assert_allclose(losses.total_variation(ops.transpose(image, (0, 2, 1, 3))), [0.5])
