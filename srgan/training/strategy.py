"""The devices of one training worker and the strategy over them."""

import logging

import keras
import ray
import tensorflow as tf

from data_pipeline.platform.errors import UserError


def configure_devices(gpus: int) -> None:
    """Prepares TensorFlow before its first use in a Ray worker.

    On the CPU it uses as many threads as Ray assigned CPUs, so that a run gives the same bits in
    every process. GPU memory grows as it is needed.

    Args:
        gpus: GPUs that Ray assigned. Ray hides no GPU from a worker without any, so 0 hides them.

    Raises:
        UserError: If TensorFlow does not see the GPUs.
        RuntimeError: If Keras has another backend.
    """
    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(
            f"training needs KERAS_BACKEND=tensorflow, found {keras.backend.backend()}"
        )
    tf.get_logger().setLevel(logging.WARNING)  # it logs every collective operation
    cpus = int(ray.get_runtime_context().get_assigned_resources().get("CPU", 1))
    if gpus == 0:
        tf.config.threading.set_intra_op_parallelism_threads(cpus)
        tf.config.threading.set_inter_op_parallelism_threads(cpus)
        tf.config.set_visible_devices([], "GPU")
    found = tf.config.get_visible_devices("GPU")
    if len(found) != gpus:
        raise UserError(
            f"node {ray.util.get_node_ip_address()}: Ray assigned {gpus} GPU(s), TensorFlow sees "
            f"{len(found)}; install tensorflow[and-cuda] there, or pass --gpus-per-worker 0"
        )
    for gpu in found:
        tf.config.experimental.set_memory_growth(gpu, True)


def make_strategy(workers: int) -> tf.distribute.Strategy:
    """Mirrors the run over every GPU of every worker, else over every worker's CPU.

    Call it before TensorFlow's first operation.

    Args:
        workers: Ray Train's; more than one find each other by the TF_CONFIG that Ray set.
    """
    if workers > 1:
        return tf.distribute.MultiWorkerMirroredStrategy()
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return local_strategy([device.name for device in devices])


def local_strategy(devices: list[str]) -> tf.distribute.Strategy:
    """MirroredStrategy over devices of this process; a single one needs no mirror.

    The reason is XLA: it cannot compile batch normalisation over mirrored replicas.
    """
    if len(devices) == 1:
        return tf.distribute.OneDeviceStrategy(devices[0])
    return tf.distribute.MirroredStrategy(devices)
