"""The low frequencies of LR in SR."""

from fractions import Fraction

import numpy as np
import pytest

from data_pipeline.imresize import imresize, imresize_floats
from data_pipeline.pairs import lr_psnr
from srgan.colour_fix import with_lows_of
from tests.conftest import photograph

HR = np.ascontiguousarray(photograph("astronaut.png")[:192, 96:336, ::-1])


def as_floats(image):
    return (image / np.float32(127.5) - 1).astype(np.float32)


def as_levels(sr):
    return np.clip(np.floor(sr * 127.5 + 128), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_a_tint_goes_and_texture_stays(scale):
    lr = imresize(HR, Fraction(1, scale))
    pixels = (lr / np.float32(255)).astype(np.float32)
    ramp = np.linspace(-0.05, 0.05, HR.shape[1], dtype=np.float32)[:, None]
    texture = np.random.default_rng(0).normal(0, 0.02, HR.shape).astype(np.float32)
    tinted = as_floats(HR) + ramp + np.float32([0.06, 0, -0.06])
    fixed = with_lows_of(pixels, tinted, scale)
    before, after = (lr_psnr(as_levels(sr), lr, scale, "matlab") for sr in (tinted, fixed))
    assert before < 35
    assert after > before + 10
    assert np.abs((fixed - as_floats(HR)).mean(axis=(0, 1))).max() < 1e-3
    added = with_lows_of(pixels, tinted + texture, scale) - fixed
    assert np.corrcoef(added.ravel(), texture.ravel())[0, 1] > 0.95


def test_sr_that_shrinks_to_lr_is_left_as_it_is():
    sr = as_floats(HR)
    lr = (imresize_floats(sr, Fraction(1, 4)) + 1) / 2
    np.testing.assert_allclose(with_lows_of(lr, sr, 4), sr, atol=1e-5)


@pytest.mark.parametrize("scale", [Fraction(4), Fraction(3), Fraction(1, 4), Fraction(1, 3)])
def test_floats_are_resized_as_levels_are(scale):
    """But for two roundings: half a level, times 1.6 by the second pass, and half a level."""
    image = HR // 2 + 64  # nothing is cut at 0 or 255
    floats = imresize_floats(image.astype(np.float32), scale)
    assert floats.dtype == np.float32
    assert np.abs(floats - imresize(image, scale)).max() < 1.4
    turned = imresize_floats(image / np.float32(-255), scale) * -255
    np.testing.assert_allclose(turned, floats, atol=1e-3)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 1), (1, 9)])
def test_the_smallest_pictures(height, width):
    lr = np.full((height, width, 3), 0.5, np.float32)
    sr = np.full((4 * height, 4 * width, 3), 0.25, np.float32)
    np.testing.assert_allclose(with_lows_of(lr, sr, 4), 0, atol=1e-6)
