import numpy as np
import pytest

from data_pipeline.imresize import imresize
from data_pipeline.pictures.alpha import enlarge_alpha, fill_transparent


def disc(height: int, width: int, radius: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return (y - height // 2) ** 2 + (x - width // 2) ** 2 <= radius**2


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_one_colour_on_black_fills_the_picture_with_it(dtype):
    colour = np.array([200, 30, 90], dtype) * dtype(1 if dtype == np.uint8 else 257)
    seen = disc(300, 220, 20)  # nothing to see within 32 pixels of the corners
    samples = np.where(seen[:, :, None], colour, 0).astype(dtype)
    alpha = np.where(seen, np.iinfo(dtype).max, 0).astype(dtype)
    filled = fill_transparent(samples, alpha)
    assert filled.dtype == dtype
    assert (filled == colour).all()
    assert (samples[0, 0] == 0).all()  # the caller's own is as it was


def test_what_can_be_seen_is_not_changed():
    rng = np.random.default_rng(0)
    samples = rng.integers(0, 256, (70, 50, 3)).astype(np.uint8)
    alpha = rng.integers(0, 4, (70, 50)).astype(np.uint8)
    filled = fill_transparent(samples, alpha)
    seen = alpha > 0
    np.testing.assert_array_equal(filled[seen], samples[seen])
    assert (filled[~seen] != samples[~seen]).any()


def fill_slowly(samples: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """The definition, pixel by pixel."""
    filled = samples.copy()
    for y, x in np.argwhere(alpha == 0):
        for radius in (2, 8, 32, len(samples) + samples.shape[1]):
            window = np.s_[max(0, y - radius) : y + radius + 1, max(0, x - radius) : x + radius + 1]
            if alpha[window].any():
                weights = alpha[window].astype(float)
                total = (samples[window] * weights[:, :, None]).sum(axis=(0, 1))
                filled[y, x] = np.rint(total / weights.sum())
                break
    return filled


def test_equals_the_definition_over_the_bands_of_rows():
    rng = np.random.default_rng(1)
    samples = rng.integers(0, 256, (540, 23, 1)).astype(np.uint8)
    alpha = np.where(rng.random((540, 23)) < 0.01, rng.integers(1, 256, (540, 23)), 0)
    alpha[200:310] = 0  # a row within is farther than 32 from what can be seen
    alpha = alpha.astype(np.uint8)
    difference = fill_transparent(samples, alpha).astype(int) - fill_slowly(samples, alpha)
    assert np.abs(difference).max() <= 1  # a mean that ends at a half
    assert np.count_nonzero(difference) < 5


def test_nothing_to_fill_or_nothing_to_see_is_left_alone():
    samples = np.zeros((5, 4, 3), np.uint8)
    for level in (0, 1, 255):
        assert fill_transparent(samples, np.full((5, 4), level, np.uint8)) is samples


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_bands_of_alpha_equal_the_whole(dtype, scale):
    alpha = np.random.default_rng(2).integers(0, np.iinfo(dtype).max + 1, (37, 11)).astype(dtype)
    whole = enlarge_alpha(alpha, scale)
    np.testing.assert_array_equal(whole, imresize(alpha, scale))
    for rows in (1, 5, 36):
        bands = [enlarge_alpha(alpha, scale, slice(top, top + rows)) for top in range(0, 37, rows)]
        np.testing.assert_array_equal(np.concatenate(bands), whole)


def test_opaque_stays_opaque():
    for dtype in (np.uint8, np.uint16):
        top = np.iinfo(dtype).max
        assert (enlarge_alpha(np.full((7, 5), top, dtype), 4) == top).all()
