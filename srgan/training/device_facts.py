"""What a worker's steps compute, what its devices can do at most, memory that was used."""

import resource
from typing import get_args

import tensorflow as tf

from srgan.config import Config, VggName
from srgan.flops import forward_flops, peak_flops, step_flops
from srgan.lpips_layers import trunk_flops
from srgan.training.state import Networks
from srgan.vgg import extractor_flops


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


def phase_flops(networks: Networks, config: Config, *, scale: int) -> dict[str, int]:
    """FLOPs of a training step of the global batch, by phase."""
    side = config.batch.hr_crop
    opponent = networks.discriminator
    names: tuple[VggName, ...] = get_args(VggName)
    extractors = {"lpips": trunk_flops("VGG16", side)}
    extractors |= {name: extractor_flops(name, side) for name in names}
    with tf.device("CPU"):  # it builds networks only to read their sizes
        generator = forward_flops(networks.generator, side // scale, side // scale)
        discriminator = forward_flops(opponent, side, side) if opponent else 0
    return {
        phase: config.batch.global_batch
        * step_flops(
            generator=generator,
            discriminator=discriminator if one.losses.adversarial else 0,
            extractors=[extractors[name] for name in extractors.keys() & one.losses.active],
        )
        for phase, one in config.phases.items()
    }
