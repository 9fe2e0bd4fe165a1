import keras
import pytest

from data_pipeline.platform.errors import UserError
from data_pipeline.platform.storage import open_storage
from srgan.generator_file import load_generator


def test_a_model_that_is_no_generator_is_named(tmp_path):
    image = keras.Input((8,))
    keras.Model(image, keras.layers.Dense(2)(image)).save(tmp_path / "other.keras")
    with pytest.raises(UserError, match=r"other\.keras: maps .* so it is no generator"):
        load_generator(open_storage(str(tmp_path)), "other.keras")
