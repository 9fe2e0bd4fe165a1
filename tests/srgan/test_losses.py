import numpy as np

from srgan.losses import pixel_mse


def test_pixel_mse_is_a_mean_per_image():
    draw = np.random.default_rng(0)
    hr, sr = draw.uniform(-1, 1, (2, 3, 8, 8, 3))
    expected = [np.mean((one - other) ** 2) for one, other in zip(hr, sr, strict=True)]
    np.testing.assert_allclose(pixel_mse(hr, sr), expected, rtol=1e-12)
