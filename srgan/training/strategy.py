"""The devices of one training worker and the strategy over them."""

import keras
import ray
import tensorflow as tf


def configure_devices() -> None:
    """Prepares TensorFlow before its first use in a Ray worker.

    Uses as many threads as Ray assigned CPUs, so that a run gives the same bits in every process,
    and takes GPU memory as it is needed.
    """
    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(
            f"training needs KERAS_BACKEND=tensorflow, found {keras.backend.backend()}"
        )
    cpus = int(ray.get_runtime_context().get_assigned_resources().get("CPU", 1))
    tf.config.threading.set_intra_op_parallelism_threads(cpus)
    tf.config.threading.set_inter_op_parallelism_threads(cpus)
    for gpu in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, True)


def mirrored_strategy() -> tf.distribute.MirroredStrategy:
    """A replica on every GPU of this process, else on every logical CPU device (usually one)."""
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return tf.distribute.MirroredStrategy([device.name for device in devices])
