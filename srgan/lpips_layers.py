"""The layers of LPIPS's networks and the shapes of their weights, without Keras.

The driver checks weights, and it imports no Keras.
"""

import math
from typing import NamedTuple


class Stage(NamedTuple):
    """Convolutions with ReLU, after a max pooling of stride 2. Its last output is compared.

    Attributes:
        pool: The pooling's window; 0 for none.
        filters: Feature maps of each convolution.
        kernel: The side of their kernels, which are padded by `padding` zeros on each side.
        stride: Their stride.
        padding: In pixels.
    """

    pool: int
    filters: tuple[int, ...]
    kernel: int = 3
    stride: int = 1
    padding: int = 1


# The trunks, by the name of their arrays. torchvision's AlexNet is the one of Krizhevsky 2014.
TRUNKS = {
    "AlexNet": (
        Stage(0, (64,), kernel=11, stride=4, padding=2),
        Stage(3, (192,), kernel=5, padding=2),
        Stage(3, (384,)),
        Stage(0, (256,)),
        Stage(0, (256,)),
    ),
    "VGG16": (
        Stage(0, (64, 64)),
        Stage(2, (128, 128)),
        Stage(2, (256, 256, 256)),
        Stage(2, (512, 512, 512)),
        Stage(2, (512, 512, 512)),
    ),
}


def weight_shapes(trunk: str) -> dict[str, tuple[int, ...]]:
    """The shapes of the published arrays of `AlexNet` or `VGG16`, by name."""
    shapes: dict[str, tuple[int, ...]] = {}
    channels, number = 3, 0
    for index, stage in enumerate(TRUNKS[trunk]):
        for filters in stage.filters:
            name = f"{trunk}_0.Conv_{number}"
            shapes[f"{name}.kernel"] = (stage.kernel, stage.kernel, channels, filters)
            shapes[f"{name}.bias"] = (filters,)
            channels, number = filters, number + 1
        shapes[f"NetLinLayer_{index}.Conv_0.kernel"] = (1, 1, channels, 1)
    return shapes


def trunk_flops(trunk: str, side: int) -> int:
    """FLOPs of a square image's features: two for each multiplication of the convolutions."""
    flops, channels = 0, 3
    for stage in TRUNKS[trunk]:
        if stage.pool:
            side = (side - stage.pool) // 2 + 1
        for filters in stage.filters:
            side = (side + 2 * stage.padding - stage.kernel) // stage.stride + 1
            flops += 2 * math.prod((side, side, stage.kernel, stage.kernel, channels, filters))
            channels = filters
    return flops
