"""SRGAN: the networks and everything that happens to them."""

from data_pipeline.platform.cuda import load_libraries
from srgan.keras_home import hide_settings

# Every process that uses a network imports this package: none can forget these. Libraries that do
# not load are no error on a node without GPUs; `use_devices` says where they are missed.
KERAS_FOLDER = hide_settings()
load_libraries()
