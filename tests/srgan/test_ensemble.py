"""The mean over eight flips and turns."""

import numpy as np

from srgan.ensemble import eightfold


def test_it_is_the_mean_of_the_eight_pictures_that_were_turned_back():
    """By a function that sees up and left alone, so that each of the eight gives another one."""

    def up_and_left(image):
        moved = 0.5 * image + 0.3 * np.roll(image, 1, axis=0) + 0.2 * np.roll(image, 1, axis=1)
        return (moved**2).repeat(2, axis=0).repeat(2, axis=1)

    image = np.random.default_rng(0).uniform(0, 1, (5, 7, 3))
    there_and_back = [
        (lambda x: x, lambda x: x),
        (lambda x: x[::-1], lambda x: x[::-1]),
        (lambda x: x[:, ::-1], lambda x: x[:, ::-1]),
        (lambda x: x[::-1, ::-1], lambda x: x[::-1, ::-1]),
        (lambda x: x.swapaxes(0, 1), lambda x: x.swapaxes(0, 1)),
        (lambda x: x.swapaxes(0, 1)[::-1], lambda x: x[::-1].swapaxes(0, 1)),
        (lambda x: x.swapaxes(0, 1)[:, ::-1], lambda x: x[:, ::-1].swapaxes(0, 1)),
        (lambda x: x.swapaxes(0, 1)[::-1, ::-1], lambda x: x[::-1, ::-1].swapaxes(0, 1)),
    ]
    eight = [back(up_and_left(there(image))) for there, back in there_and_back]
    found = eightfold(up_and_left, image)
    assert found.shape == (10, 14, 3)
    np.testing.assert_allclose(found, np.mean(eight, axis=0), rtol=1e-12)
    assert np.abs(found - eight[0]).max() > 0.1


def test_a_function_that_turns_with_its_image_is_left_as_it_is():
    image = np.random.default_rng(0).uniform(0, 1, (4, 9, 3))
    np.testing.assert_allclose(eightfold(np.sqrt, image), np.sqrt(image), rtol=1e-12)
