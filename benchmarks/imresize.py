"""Seconds to shrink a DIV2K-size image (2040x1356) by 4 on one core, and against OpenCV's cubic.

python -m benchmarks.imresize
"""

import json
import time
from collections.abc import Callable
from fractions import Fraction

import cv2
import numpy as np

from data_pipeline.imresize import imresize

_ROUNDS = 9


def main() -> None:
    """Prints the medians of a few rounds, in turn with OpenCV."""
    cv2.setNumThreads(1)
    image = np.random.default_rng(0).integers(0, 256, (1356, 2040, 3), np.uint8)
    quarter = Fraction(1, 4)
    small = imresize(image, quarter)
    cases: dict[str, Callable[[], object]] = {
        "down_seconds": lambda: imresize(image, quarter),
        "up_seconds": lambda: imresize(small, 4),
        "opencv_cubic_down_seconds": lambda: imresize(image, quarter, "opencv"),
    }
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(_ROUNDS):
        for name, case in cases.items():
            start = time.perf_counter()
            case()
            seconds[name].append(time.perf_counter() - start)
    medians = {name: round(float(np.median(values)), 4) for name, values in seconds.items()}
    print(json.dumps({"size": "2040x1356", "cores": 1, **medians}))


if __name__ == "__main__":
    main()
