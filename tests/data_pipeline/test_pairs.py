"""HR and LR that belong together."""

from fractions import Fraction

import cv2
import numpy as np
import pytest

from data_pipeline.images import ImageError
from data_pipeline.imresize import imresize
from data_pipeline.pairs import doubt_about, fit_pair
from tests.conftest import photograph


def rgb(name: str) -> np.ndarray:
    return np.ascontiguousarray(photograph(name)[:256, :256, ::-1])


def lr_of(hr: np.ndarray, scale: int = 4) -> np.ndarray:
    return imresize(hr, Fraction(1, scale))


NOISE = np.random.default_rng(0).integers(0, 256, (130, 131, 3), np.uint8)
GREY = NOISE[:, :, :1]


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
@pytest.mark.parametrize("round_up", [0, 1])
def test_hr_loses_the_rest_of_a_side_and_lr_its_pixel(scale, round_up):
    """MATLAB's imresize makes 33 pixels of 130 at x4."""
    lr = NOISE[: 130 // scale + (round_up and 130 % scale > 0), : 131 // scale + round_up]
    assert round_up == 0 or lr.shape == lr_of(NOISE, scale).shape
    hr, found = fit_pair(NOISE, lr, scale, "lr.png")
    height, width = 130 - 130 % scale, 131 - 131 % scale
    np.testing.assert_array_equal(hr, NOISE[:height, :width])
    np.testing.assert_array_equal(found, NOISE[: height // scale, : width // scale])


def test_grey_and_rgb_meet_where_nothing_is_lost():
    lr = GREY[:32, :32]
    hr, found = fit_pair(NOISE, lr, 4, "lr.png")
    assert hr.shape == (128, 128, 3)
    np.testing.assert_array_equal(found, np.repeat(lr, 3, axis=2))
    hr, found = fit_pair(GREY, np.repeat(lr, 3, axis=2), 4, "lr.png")
    assert hr.shape == (128, 128, 1)
    np.testing.assert_array_equal(found, lr)


@pytest.mark.parametrize(
    ("hr", "lr", "message"),
    [
        (GREY, NOISE[:32, :32], r"is grey, lr\.png has colours; store both alike"),
        (NOISE, NOISE[:34, :32], r"\(131x130, RGB\) is not 4 times lr\.png \(32x34, RGB\).*32x32"),
        (NOISE[:128], NOISE[:33, :32], r"\(131x128, RGB\) is not 4 times lr\.png \(32x33, RGB\)"),
        (NOISE, GREY[:32, :31], r"\(131x130, RGB\) is not 4 times lr\.png \(31x32, RGB\)"),
        (NOISE[:3], NOISE[:1, :32], r"\(131x3, RGB\) is not 4 times"),
    ],
)
def test_what_does_not_fit_is_refused(hr, lr, message):
    with pytest.raises(ImageError, match=message):
        fit_pair(hr, lr, 4, "lr.png")


PHOTOS = ("astronaut.png", "coffee.png", "chelsea.png", "motorcycle_left.png")


def noisy(hr):
    noise = np.random.default_rng(1).normal(0, 15, (64, 64, 3))
    return np.clip(lr_of(hr) + noise, 0, 255).astype(np.uint8)


def jpeg(hr):
    data = cv2.imencode(".jpg", lr_of(hr), [cv2.IMWRITE_JPEG_QUALITY, 30])[1]
    return cv2.imdecode(data, cv2.IMREAD_COLOR)


@pytest.mark.parametrize("name", PHOTOS)
@pytest.mark.parametrize(
    "degrade",
    [
        lr_of,
        lambda hr: imresize(hr, Fraction(1, 4), "opencv"),
        lambda hr: cv2.resize(hr, (64, 64), interpolation=cv2.INTER_AREA),
        lambda hr: hr[2::4, 2::4],
        lambda hr: cv2.GaussianBlur(lr_of(hr), (0, 0), 1.0),
        noisy,
        jpeg,
    ],
    ids=["bicubic", "opencv", "area", "nearest", "blurred", "noisy", "jpeg"],
)
def test_lr_that_is_made_in_another_way_raises_no_doubt(name, degrade):
    hr = rgb(name)
    assert doubt_about(hr, degrade(hr)) is None


@pytest.mark.parametrize("name", PHOTOS)
@pytest.mark.parametrize(
    "spoil",
    [
        lambda lr: lr[::-1, ::-1],
        lambda lr: lr[::-1],
        lambda lr: lr[:, ::-1],
        lambda lr: np.ascontiguousarray(lr.swapaxes(0, 1)),
        lambda lr: np.full_like(lr, 128),
        lambda lr: 255 - lr,
    ],
    ids=["half a turn", "upside down", "mirrored", "transposed", "flat", "negative"],
)
def test_turned_and_spoilt_lr_raises_doubt(name, spoil):
    hr = rgb(name)
    assert "dB from the downscaled HR" in doubt_about(hr, spoil(lr_of(hr)))


def test_lr_of_another_picture_raises_doubt_also_if_both_are_dark():
    for one in PHOTOS:
        for other in PHOTOS:
            hr, lr = rgb(one), lr_of(rgb(other))
            assert (doubt_about(hr, lr) is None) == (one == other)
            dark = doubt_about(hr // 4, lr // 4)
            assert (dark is None) == (one == other)


@pytest.mark.parametrize("period", [3, 5, 6])
@pytest.mark.parametrize("kernel", ["matlab", "opencv"])
def test_exact_lr_of_lines_of_one_pixel_raises_no_doubt(period, kernel):
    """The mean of each square is far from what a kernel makes of them."""
    hr = np.full((240, 240, 3), 255, np.uint8)
    hr[::period] = 0
    lr = imresize(hr, Fraction(1, 4), kernel)
    assert doubt_about(hr, lr) is None
    assert doubt_about(hr, 255 - lr) is not None


def test_flat_pictures():
    black = np.zeros((64, 64, 3), np.uint8)
    assert doubt_about(black, lr_of(black)) is None
    assert doubt_about(black, lr_of(black) + 2) is None  # 42 dB
    assert doubt_about(black, lr_of(black) + 255) == "0.0 dB from the downscaled HR"
