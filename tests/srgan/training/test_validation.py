"""Scores and picture of whole images, against the evaluation's own."""

import numpy as np
import pytest

from data_pipeline.images import as_rgb
from data_pipeline.imresize import imresize
from srgan.evaluation.benchmark import data_benchmark
from srgan.evaluation.psnr_ssim import score
from srgan.networks import generator
from srgan.training.validation import Validation
from srgan.upscale import super_resolve


@pytest.fixture(scope="module")
def benchmark(small_data):
    return data_benchmark(str(small_data), None)


def test_the_scores_are_means_over_the_images(benchmark):
    network = generator(blocks=1, filters=4)
    found, _ = Validation(benchmark, 2).examine(network)
    pairs = [benchmark.pair(number) for number in range(2)]
    sr = [score(pair.hr, super_resolve(network, pair.lr), border=4) for pair in pairs]
    bicubic = [score(pair.hr, imresize(pair.lr, 4), border=4) for pair in pairs]
    for method, scores in (("validation", sr), ("bicubic", bicubic)):
        for field in ("psnr_rgb", "psnr_y", "ssim_rgb", "ssim_y"):
            mean = np.mean([getattr(one, field) for one in scores])
            assert found[f"{method}_{field}"] == pytest.approx(mean, abs=1e-4)


def test_the_picture_shows_nearest_sr_and_hr(benchmark):
    network = generator(blocks=1, filters=4)
    _, picture = Validation(benchmark, 9).examine(network)
    assert picture.shape == (3 * 160, 3 * 160, 3)  # there are three images
    pair = benchmark.pair(0)
    height, width = (min(160, side) for side in pair.hr.shape[:2])
    top, left = (pair.hr.shape[0] - height) // 2, (pair.hr.shape[1] - width) // 2
    shown = picture[:height, 2 * width : 3 * width]
    np.testing.assert_array_equal(shown, as_rgb(pair.hr)[top : top + height, left : left + width])


def test_no_image_no_scores(benchmark):
    assert Validation(benchmark, 0).examine(generator(blocks=1, filters=4)) == ({}, None)
