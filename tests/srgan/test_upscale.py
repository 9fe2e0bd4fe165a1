"""Stored generators: loaded, and their weights taken over."""

import numpy as np
import pytest

from data_pipeline.errors import UserError
from data_pipeline.storage import open_storage
from srgan.networks import generator
from srgan.upscale import load_weights, save_generator


def test_the_weights_of_a_stored_generator_are_taken_over(tmp_path):
    storage = open_storage(str(tmp_path))
    stored, other = (generator(blocks=1, filters=4) for _ in range(2))
    save_generator(stored, storage, "generators/pretrain.keras")
    load_weights(other, storage, "generators/pretrain.keras", "it")
    for one, two in zip(stored.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)


def test_a_generator_of_another_size_is_refused_and_changes_nothing(tmp_path):
    storage = open_storage(str(tmp_path))
    save_generator(generator(blocks=1, filters=8), storage, "g.keras")
    other = generator(blocks=1, filters=4)
    before = other.get_weights()
    with pytest.raises(UserError, match=r"run/g\.keras: is a generator of another size than the"):
        load_weights(other, storage, "g.keras", "run/g.keras")
    for one, two in zip(before, other.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
