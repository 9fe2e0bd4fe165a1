"""What a worker knows of its devices: memory that was used, what a GPU can do at most."""

import resource

import tensorflow as tf

from srgan.config import Config
from srgan.flops import peak_flops


def device_peak_flops(config: Config) -> float | None:
    """FLOP/s that each GPU can do at most; None on the CPU and for unknown GPUs."""
    gpus = tf.config.get_visible_devices("GPU")
    if not gpus:
        return None
    name = tf.config.experimental.get_device_details(gpus[0]).get("device_name", "")
    return peak_flops(name, config.precision, tf32=config.tf32)


def peak_memory() -> dict[str, int]:
    """Peak memory so far in bytes: of this process, and of the GPU that used most."""
    peak = {"peak_host_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}
    gpus = len(tf.config.get_visible_devices("GPU"))
    if gpus:
        peak["peak_gpu_bytes"] = max(
            tf.config.experimental.get_memory_info(f"GPU:{number}")["peak"]
            for number in range(gpus)
        )
    return peak
