"""The devices of one training worker and the strategy over them."""

import keras
import ray
import tensorflow as tf


def configure_devices(gpus: int) -> None:
    """Prepares TensorFlow before its first use in a Ray worker.

    Uses as many threads as Ray assigned CPUs, so that a run gives the same bits in every process,
    and takes GPU memory as it is needed.

    Args:
        gpus: GPUs that Ray assigned. Ray hides no GPU from a worker without any, so 0 hides them.

    Raises:
        RuntimeError: If Keras has another backend, or TensorFlow does not see the GPUs.
    """
    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(
            f"training needs KERAS_BACKEND=tensorflow, found {keras.backend.backend()}"
        )
    cpus = int(ray.get_runtime_context().get_assigned_resources().get("CPU", 1))
    tf.config.threading.set_intra_op_parallelism_threads(cpus)
    tf.config.threading.set_inter_op_parallelism_threads(cpus)
    if gpus == 0:
        tf.config.set_visible_devices([], "GPU")
    found = tf.config.get_visible_devices("GPU")
    if len(found) != gpus:
        raise RuntimeError(
            f"Ray assigned {gpus} GPUs, TensorFlow sees {len(found)}: "
            "install tensorflow[and-cuda], or pass --gpus-per-worker 0"
        )
    for gpu in found:
        tf.config.experimental.set_memory_growth(gpu, True)


def mirrored_strategy() -> tf.distribute.MirroredStrategy:
    """A replica on every GPU of this process, else on every logical CPU device (usually one)."""
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return tf.distribute.MirroredStrategy([device.name for device in devices])
