import numpy as np

from srgan.evaluation.comparison import most_detailed_crop


def test_the_most_detailed_crop_is_found():
    image = np.zeros((300, 400, 3), np.uint8)
    image[128:256, 192:320] = np.random.default_rng(0).integers(0, 256, (128, 128, 3))
    assert most_detailed_crop(image, 128) == (128, 192)
    assert most_detailed_crop(image[:50, :50], 128) == (0, 0)
