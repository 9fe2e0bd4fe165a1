"""SRGAN: the networks and everything that happens to them."""

from data_pipeline.platform.cuda import load_libraries

# Every process that uses a network imports this package: none can forget it. Libraries that do not
# load are no error on a node without GPUs; `use_devices` says where they are missed.
load_libraries()
