from fractions import Fraction

import cv2
import numpy as np
import pytest

from data_pipeline.images import decode_image
from data_pipeline.imresize import imresize
from tests.conftest import photograph


def cubic(x: float) -> float:
    x = abs(x)
    if x <= 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x <= 2 else 0.0


def resize_line(line: np.ndarray, scale: float) -> np.ndarray:
    """The definition, sample by sample: mirrored edges, half-pixel centres, widened kernel."""
    mirrored = np.concatenate([line[::-1], line, line[::-1]]).astype(float)
    stretch = min(scale, 1.0)
    out = []
    for index in range(int(np.ceil(len(line) * scale))):
        centre = (index + 0.5) / scale - 0.5
        at = np.arange(-len(line), 2 * len(line))
        weights = np.array([cubic(stretch * (centre - place)) for place in at])
        out.append(np.clip(np.floor(mirrored @ weights / weights.sum() + 0.5), 0, 255))
    return np.array(out, np.uint8)


def resize_slowly(image: np.ndarray, scale: float) -> np.ndarray:
    rows_first = np.apply_along_axis(resize_line, 0, image, scale)
    return np.apply_along_axis(resize_line, 1, rows_first, scale)


@pytest.mark.parametrize("scale", [1 / 4, 1 / 3, 1 / 2, 2, 3, 4])
def test_equals_the_definition(scale):
    image = photograph("chelsea.png")[100:112, 200:224]
    np.testing.assert_array_equal(imresize(image, scale), resize_slowly(image, scale))


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
    with pytest.raises(ValueError, match=r"expected a uint8 image|scale must be positive"):
        imresize(image, scale)
