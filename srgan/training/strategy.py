"""The devices of one training worker and the strategy over them."""

import logging

import ray
import tensorflow as tf

from data_pipeline.platform.devices import use_devices
from srgan.config import Config

# Longer than `watchdog.py` lets a worker be away: it can name the worker, and this cannot.
_SECONDS_FOR_A_SUM = 7200.0


def configure_devices(gpus: int) -> None:
    """Prepares TensorFlow before its first use in a Ray worker.

    Args:
        gpus: GPUs that Ray assigned.

    Raises:
        UserError: If TensorFlow does not see the GPUs.
    """
    tf.get_logger().setLevel(logging.WARNING)  # it logs every collective operation
    cpus = int(ray.get_runtime_context().get_assigned_resources().get("CPU", 1))
    use_devices(cpus=cpus, gpus=gpus)


def make_strategy(workers: int) -> tf.distribute.Strategy:
    """Mirrors the run over every GPU of every worker, else over every worker's CPU.

    Call it before TensorFlow's first operation.

    Args:
        workers: Ray Train's; more than one find each other by TF_CONFIG, see `addresses.py`.
    """
    if workers > 1:
        options = communication_options(gpus=len(tf.config.get_visible_devices("GPU")))
        return tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return local_strategy([device.name for device in devices])


def communication_options(*, gpus: int) -> tf.distribute.experimental.CommunicationOptions:
    """How workers sum up: by NCCL where they have GPUs, else by gRPC.

    TensorFlow's own choice is gRPC for GPUs, too. A sum that some worker never joins fails at last.
    Others wait in it while a worker saves, or compiles with a cold cache.

    Args:
        gpus: Of each worker.
    """
    kinds = tf.distribute.experimental.CommunicationImplementation
    return tf.distribute.experimental.CommunicationOptions(
        implementation=kinds.NCCL if gpus else kinds.RING, timeout_seconds=_SECONDS_FOR_A_SUM
    )


def uses_xla(config: Config, *, gpus: int, replicas: int) -> bool:
    """Whether steps are compiled with XLA.

    XLA is slower than oneDNN on the CPU. Over several replicas it cannot compile a sum on the CPU;
    on GPUs nobody tried. So what it compiles there holds no sum, as batch normalisation does.

    Args:
        config: The experiment.
        gpus: Of each worker.
        replicas: Of the run.
    """
    if config.xla == "auto":
        return gpus > 0 and (replicas == 1 or not config.has_batch_norm)
    return bool(config.xla)


def steps_per_call(config: Config, *, gpus: int) -> int:
    """Steps in one call of the compiled function: the configured number, or the device's."""
    return config.steps_per_call or (50 if gpus else 10)


def local_strategy(devices: list[str]) -> tf.distribute.Strategy:
    """MirroredStrategy over devices of this process; a single one needs no mirror.

    The reason is XLA: it cannot compile batch normalisation over mirrored replicas.
    """
    if len(devices) == 1:
        return tf.distribute.OneDeviceStrategy(devices[0])
    return tf.distribute.MirroredStrategy(devices)
