"""Windows of an axis, and bands of rows that are joined."""

import numpy as np
import pytest

from srgan.tiles import bands_in_tiles, joined, windows


@pytest.mark.parametrize("halo", [0, 3, 10])
@pytest.mark.parametrize("side", [40, 64, 97])
@pytest.mark.parametrize("length", [1, 39, 40, 41, 64, 97, 98, 500])
def test_windows_fill_the_axis_and_keep_a_halo_from_every_cut(length, side, halo):
    found = list(windows(length, halo, side))
    assert [kept[0] for *_, kept in found] == [0] + [kept[1] for *_, kept in found[:-1]]
    assert found[-1].kept[1] == length
    for start, end, kept in found:
        assert end - start <= side
        assert kept[0] - start >= halo or start == kept[0] == 0
        assert end - kept[1] >= halo or end == kept[1] == length


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_bands_have_the_rows_that_were_asked_for_and_equal_the_whole(dtype):
    image = np.random.default_rng(0).integers(0, 200, (151, 90, 3)).astype(dtype)
    seen = []

    def enlarge(window):
        seen.append(window.shape)
        return window.repeat(2, axis=0).repeat(2, axis=1)

    bands = list(bands_in_tiles(enlarge, image, halo=5, side=64, rows=32))
    assert len(bands) > 5
    assert max(shape[0] for shape in seen) <= 32
    assert max(shape[1] for shape in seen) <= 64
    assert all(band.shape[1:] == (180, 3) and band.dtype == dtype for band in bands)
    assert max(map(len, bands)) <= 2 * 32
    np.testing.assert_array_equal(np.concatenate(bands), enlarge(image))
    np.testing.assert_array_equal(joined(bands, width=90, height=151), enlarge(image))


def test_a_band_is_given_before_the_next_is_made():
    made = []

    def note(window):
        made.append(window)
        return window

    bands = bands_in_tiles(note, np.zeros((100, 10, 1)), halo=2, side=20, rows=20)
    next(bands)
    assert len(made) == 1
    assert next(bands).base is None  # it holds no tile
