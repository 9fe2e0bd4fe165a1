import math
from fractions import Fraction

import cv2
import numpy as np
import pytest

from data_pipeline.images import decode_image
from data_pipeline.imresize import SCALES, imresize
from tests.conftest import photograph


def cubic(x: Fraction) -> Fraction:
    x = abs(x)
    if x <= 1:
        return (3 * x**3 - 5 * x**2 + 2) / 2
    return (-(x**3) + 5 * x**2 - 8 * x + 4) / 2 if x <= 2 else Fraction(0)


def resize_rows(image: np.ndarray, scale: Fraction) -> np.ndarray:
    """The definition, row by row: mirrored edges, half-pixel centres, widened kernel.

    In whole numbers, because half a level is rounded up however a machine sums floats.
    """
    length = len(image)
    mirrored = np.concatenate([image[::-1], image, image[::-1]]).astype(np.int64)
    stretch = min(scale, Fraction(1))
    rows = []
    for index in range(math.ceil(length * scale)):
        centre = (index + Fraction(1, 2)) / scale - Fraction(1, 2)
        weights = [cubic(stretch * (centre - place)) for place in range(-length, 2 * length)]
        unit = math.lcm(*(weight.denominator for weight in weights))
        total = np.tensordot([int(weight * unit) for weight in weights], mirrored, axes=1)
        whole = int(sum(weights) * unit)
        rows.append(np.clip((2 * total + whole) // (2 * whole), 0, np.iinfo(image.dtype).max))
    return np.array(rows, image.dtype)


def resize_slowly(image: np.ndarray, scale: Fraction) -> np.ndarray:
    rows = resize_rows(image, scale)
    return resize_rows(rows.swapaxes(0, 1), scale).swapaxes(0, 1)


@pytest.mark.parametrize("scale", [text for n in SCALES for text in (f"1/{n}", f"{n}")])
def test_equals_the_definition(scale):
    image = photograph("chelsea.png")[100:124, 200:232]
    exact = resize_slowly(image, Fraction(scale))
    np.testing.assert_array_equal(imresize(image, float(Fraction(scale))), exact)


def test_16_bits_equal_the_definition():
    image = photograph("chelsea.png")[100:112, 200:216].astype(np.uint16) * 257
    np.testing.assert_array_equal(imresize(image, 4), resize_slowly(image, Fraction(4)))


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("level", [0, 1, 127, 255])
def test_a_constant_image_stays_constant(scale, level):
    image = np.full((33, 25), level, np.uint8)
    for factor in (scale, Fraction(1, scale)):
        assert (imresize(image, factor) == level).all()


def test_div2k_pair_is_reproduced_bit_for_bit(benchmark_sets):
    hr = decode_image((benchmark_sets / "div2k/train_HR/0004.png").read_bytes())
    lr = decode_image((benchmark_sets / "div2k/train_LR_bicubic_X2/0004x2.png").read_bytes())
    assert np.count_nonzero(imresize(hr, Fraction(1, 2)) != lr) == 0


@pytest.mark.parametrize(("name", "count"), [("Set5", 5), ("Set14", 14)])
def test_benchmark_lr_is_reproduced_up_to_its_border(benchmark_sets, name, count):
    files = sorted((benchmark_sets / name / "HR").iterdir())
    assert len(files) == count
    for file in files:
        hr = decode_image(file.read_bytes())
        lr = decode_image((benchmark_sets / name / "LR_x4" / file.name).read_bytes())
        differs = imresize(hr, 0.25) != lr
        assert not differs[2:-2, 2:-2].any()


def test_opencv_kernel_is_opencvs():
    image = photograph("coffee.png")
    expected = cv2.resize(image, (150, 100), interpolation=cv2.INTER_CUBIC)
    np.testing.assert_array_equal(imresize(image, 0.25, "opencv"), expected)


def test_grey_and_channel_axes_are_kept():
    grey = photograph("camera.png")[:41, :30]
    assert imresize(grey, 0.25).shape == (11, 8)
    assert imresize(grey[:, :, None], 0.25).shape == (11, 8, 1)
    assert imresize(grey[:, :, None], 0.25, "opencv").shape == (11, 8, 1)


@pytest.mark.parametrize(
    ("image", "scale"),
    [
        (np.zeros((4, 4), np.float32), 0.5),
        (np.zeros((0, 4), np.uint8), 0.5),
        (np.zeros((4,), np.uint8), 0.5),
        (np.zeros((4, 4), np.uint8), 0),
        (np.zeros((4, 4), np.uint8), -1),
    ],
)
def test_what_is_no_image_or_no_scale_is_refused(image, scale):
    with pytest.raises(
        ValueError, match=r"expected a uint8 or uint16 image|scale must be positive"
    ):
        imresize(image, scale)
