"""The grid measure on synthetic grids of known strength, over real photographs."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

from data_pipeline.images import Image
from data_pipeline.imresize import imresize
from srgan.evaluation.grid import grid
from tests.conftest import photograph

SCALES = (2, 3, 4, 8)


@pytest.fixture(scope="module")
def hr() -> Image:
    """Away from black and white, so that a grid is not clipped."""
    return np.uint8(photograph("astronaut.png")[:384, 64:448, ::-1] * 0.6 + 40)


def bicubic(hr: Image, scale: int) -> Image:
    return imresize(imresize(hr, Fraction(1, scale)), scale)


def with_grid(image: Image, levels: int, kind: str, period: int) -> Image:
    """Dots or lines that are `levels` brighter."""
    y, x = np.indices(image.shape[:2])
    is_bright = {
        "dots": (y % period == 1) & (x % period == 1),
        "upright lines": x % period == 0,
        "level lines": y % period == 0,
        "checkerboard": (y // (period // 2) + x // (period // 2)) % 2 == 0,
    }[kind]
    return np.where(is_bright[..., None], image + np.uint8(levels), image)


@pytest.mark.parametrize("scale", SCALES)
def test_what_has_no_grid_has_1(hr, scale):
    assert grid(hr, hr, scale=scale) == 1.0
    assert grid(hr, bicubic(hr, scale), scale=scale) == pytest.approx(1, abs=0.05)
    noise = np.random.default_rng(0).normal(hr, 5).clip(0, 255).astype(np.uint8)
    assert grid(hr, noise, scale=scale) == pytest.approx(1, abs=0.05)
    assert grid(with_grid(hr, 4, "dots", scale), hr, scale=scale) == 1.0  # HR's own is no fault


@pytest.mark.parametrize("kind", ["dots", "upright lines", "level lines", "checkerboard"])
@pytest.mark.parametrize("period", [2, 4])
def test_a_grid_counts_by_its_energy(hr, kind, period):
    found = [
        grid(hr, with_grid(bicubic(hr, 4), levels, kind, period), scale=4) - 1
        for levels in (4, 8, 16)
    ]
    assert found[0] > 0.5
    for weaker, stronger in pairwise(found):
        assert stronger / weaker == pytest.approx(4, rel=0.2)  # twice the amplitude


@pytest.mark.parametrize(("scale", "periods"), [(2, [2]), (3, [3]), (4, [4, 2]), (8, [8, 4, 2])])
def test_the_periods_are_those_of_the_scales_stages(hr, scale, periods):
    smooth = bicubic(hr, scale)
    for period in periods:
        assert grid(hr, with_grid(smooth, 30, "dots", period), scale=scale) > 1.5
    for period in (5, 7):
        assert grid(hr, with_grid(smooth, 30, "dots", period), scale=scale) < 1.1


def test_flat_and_grey_images_have_finite_values():
    flat = np.full((70, 90, 1), 128, np.uint8)
    assert grid(flat, flat, scale=4) == grid(flat, flat + np.uint8(9), scale=4) == 1.0
    assert 10 < grid(flat, with_grid(flat, 20, "dots", 4), scale=4) < 1e6


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("shape", [(63, 100, 3), (100, 63, 1)])
def test_an_image_that_is_too_small_has_no_value(shape, scale):
    image = np.zeros(shape, np.uint8)
    assert grid(image, image, scale=scale) is None
    larger = np.zeros((64, 64, 3), np.uint8)
    assert grid(larger, larger, scale=scale) == 1.0
