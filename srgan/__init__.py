"""SRGAN: the networks and everything that happens to them."""

from typing import TYPE_CHECKING

from data_pipeline.platform.cuda import load_libraries
from srgan.keras_home import hide_settings

if TYPE_CHECKING:
    from srgan.generator_choice import Epoch
    from srgan.trained import TrainedGenerator

# Every process that uses a network imports this package: none can forget these. Libraries that do
# not load are no error on a node without GPUs; `use_devices` says where they are missed.
KERAS_FOLDER = hide_settings()
load_libraries()


def load_generator(uri: str, epoch: "Epoch" = None) -> "TrainedGenerator":
    """Loads a trained generator: `load_generator("RUN").upscale(rgb)`.

    See `srgan.trained.open_generator`, which this imports: TensorFlow takes seconds.
    """
    from srgan.trained import open_generator

    return open_generator(uri, epoch)
