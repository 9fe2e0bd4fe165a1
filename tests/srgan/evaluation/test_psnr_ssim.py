import numpy as np
import pytest
import tensorflow as tf
from skimage.metrics import structural_similarity

from data_pipeline.images import decode_image
from data_pipeline.imresize import imresize
from srgan.evaluation.psnr_ssim import luma, psnr, score, ssim
from tests.conftest import photograph


def image_pairs():
    draw = np.random.default_rng(0)
    noise = draw.integers(0, 256, (2, 40, 50, 3)).astype(np.float64)
    photo = photograph("chelsea.png")[:200, :300]
    blurred = imresize(imresize(photo, 0.25), 4)
    return [tuple(noise), (photo.astype(np.float64), blurred.astype(np.float64))]


@pytest.mark.parametrize("pair", image_pairs(), ids=["noise", "photograph"])
def test_equals_scikit_image_and_tensorflow(pair):
    one, other = pair
    expected = structural_similarity(
        one,
        other,
        data_range=255,
        channel_axis=2,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    assert ssim(one, other) == pytest.approx(expected, abs=1e-4)
    assert ssim(one, other) == pytest.approx(float(tf.image.ssim(one, other, 255)), abs=1e-4)
    assert psnr(one, other) == pytest.approx(float(tf.image.psnr(one, other, 255)), abs=1e-4)


@pytest.mark.parametrize("height", [19, 82, 83, 210])
def test_a_score_by_stripes_is_that_of_the_whole_image(height):
    hr = photograph("coffee.png")[:height, :250]
    sr = imresize(imresize(hr, 0.25), 4)[:height, :250]
    one, other = (image[4:-4, 4:-4].astype(np.float64) for image in (hr, sr))
    y_one, y_other = luma(one), luma(other)
    expected = (psnr(one, other), psnr(y_one, y_other), ssim(one, other), ssim(y_one, y_other))
    assert score(hr, sr, border=4) == pytest.approx(expected, abs=1e-10)
    assert expected[2] == pytest.approx(float(tf.image.ssim(one, other, 255)), abs=1e-4)


def test_luma_is_limited_range():
    colours = np.array([[[0, 0, 0], [255, 255, 255], [255, 0, 0]]], np.float64)
    np.testing.assert_allclose(luma(colours)[0, :, 0], [16, 235, 16 + 65.481], atol=1e-9)


def test_equal_images():
    image = photograph("coffee.png")
    assert score(image, image, border=4) == (float("inf"), float("inf"), 1, 1)


def test_the_border_does_not_count():
    image = photograph("coffee.png")[:60, :60]
    spoiled = image.copy()
    spoiled[:4] = spoiled[-4:] = 0
    spoiled[:, :4] = spoiled[:, -4:] = 0
    assert score(image, spoiled, border=4).psnr_rgb == float("inf")
    assert score(image, spoiled, border=3).psnr_rgb < 40


def test_what_cannot_be_scored_is_refused():
    image = np.zeros((30, 18, 3), np.uint8)
    with pytest.raises(ValueError, match="18x30 pixels are too few"):
        score(image, image, border=4)
    with pytest.raises(ValueError, match="differ in shape"):
        score(image, image[1:], border=0)


def mean_bicubic(sets, name: str) -> np.ndarray:
    rows = []
    for file in sorted((sets / name / "HR").iterdir()):
        hr = decode_image(file.read_bytes())
        lr = decode_image((sets / name / "LR_x4" / file.name).read_bytes())
        nearest = lr.repeat(4, axis=0).repeat(4, axis=1)
        rows.append([*score(hr, imresize(lr, 4), border=4), score(hr, nearest, border=4).psnr_y])
    return np.mean(rows, axis=0)


def test_published_figures_of_set5(benchmark_sets):
    psnr_rgb, psnr_y, _, ssim_y, nearest_y = mean_bicubic(benchmark_sets, "Set5")
    assert psnr_y == pytest.approx(28.42, abs=0.02)
    assert nearest_y == pytest.approx(26.26, abs=0.02)
    assert psnr_rgb == pytest.approx(26.69, abs=0.03)
    assert ssim_y == pytest.approx(0.811, abs=0.001)


def test_published_figures_of_set14_with_its_grey_image(benchmark_sets):
    _, psnr_y, _, _, nearest_y = mean_bicubic(benchmark_sets, "Set14")
    assert psnr_y == pytest.approx(26.00, abs=0.02)
    assert nearest_y == pytest.approx(24.65, abs=0.02)


def test_opencv_protocol_on_set5(benchmark_sets):
    rows = []
    for file in sorted((benchmark_sets / "Set5" / "HR").iterdir()):
        hr = decode_image(file.read_bytes())
        lr = imresize(hr, 0.25, "opencv")
        rows.append(score(hr, imresize(lr, 4, "opencv"), border=4))
    psnr_rgb, psnr_y, *_ = np.mean(rows, axis=0)
    assert psnr_y == pytest.approx(27.69, abs=0.01)
    assert psnr_rgb == pytest.approx(25.96, abs=0.01)
