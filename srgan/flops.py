"""What a training step computes: FLOPs of the networks, and what GPUs can do at most."""

import math
import re
from collections.abc import Sequence

import keras

# Dense matrix products of NVIDIA's data sheets in TFLOP/s: bfloat16, float32 with TF32, without.
_PEAKS = {
    "H200": (989.4, 494.7, 66.9),
    "H100 PCIe": (756.0, 378.0, 51.2),
    "H100 80GB HBM3": (989.4, 494.7, 66.9),
    "A100": (311.9, 156.0, 19.5),
    "L40S": (362.1, 183.2, 91.6),
    "L4": (121.0, 60.5, 30.3),
    "A10G": (70.0, 35.0, 31.2),
}


def forward_flops(model: keras.Model, height: int, width: int) -> int:
    """FLOPs of one image's forward pass.

    Two for each multiplication in convolutions and dense layers. The rest is left out, as usual.

    Args:
        model: A functional model whose input is [N, height, width, 3].
        height: Of the input in pixels.
        width: Likewise.
    """
    sized = keras.models.clone_model(model, input_tensors=keras.Input((height, width, 3)))
    return sum(_layer_flops(layer) for layer in sized.layers)


def upscaling_gflops(generator: keras.Model, scale: int) -> float:
    """GFLOPs of a generator for a megapixel of SR, by `forward_flops`; the same for every size."""
    return forward_flops(generator, 1, 1) / scale**2 / 1e3


def _layer_flops(layer: keras.Layer) -> int:
    if isinstance(layer, keras.layers.Conv2D):
        _, height, width, _ = layer.output.shape
        return 2 * int(height * width * math.prod(layer.kernel.shape))
    if isinstance(layer, keras.layers.Dense):
        return 2 * int(math.prod(layer.kernel.shape))
    return 0


def step_flops(*, generator: int, discriminator: int = 0, extractors: Sequence[int] = ()) -> int:
    """FLOPs of a training step for one patch.

    A gradient costs a forward pass for the inputs and one for the weights. The generator: 3 passes.
    The discriminator: HR and SR forward, both back with weights, SR back again for the generator:
    7 passes. A feature extractor: HR and SR forward, SR back: 3 passes.

    Args:
        generator: FLOPs of its forward pass of one patch.
        discriminator: Likewise; 0 in a phase that does not train it.
        extractors: Of each extractor that the loss needs.
    """
    return 3 * generator + 7 * discriminator + 3 * sum(extractors)


def peak_flops(device: str, precision: str, *, tf32: bool) -> float | None:
    """FLOP/s that a GPU can do at most in dense matrix products.

    None for a device that is not known, a part of one (MIG), and for float64.

    Args:
        device: Its name, as `NVIDIA H100 80GB HBM3`.
        precision: Keras's policy.
        tf32: Whether float32 runs as TF32.
    """
    words = re.split(r"[\s-]+", device)
    if precision == "float64" or {"MIG", "NVL"} & set(words):
        return None
    for name, (bfloat16, with_tf32, float32) in _PEAKS.items():
        if set(name.split()) <= set(words):
            if precision == "mixed_bfloat16":
                return bfloat16 * 1e12
            return (with_tf32 if tf32 else float32) * 1e12
    return None
