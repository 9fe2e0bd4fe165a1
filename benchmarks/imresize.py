"""Seconds to shrink and enlarge an image by 4 on one core, and those of OpenCV's cubic.

python -m benchmarks.imresize [--size 2040x1356] [--rounds 9]
"""

import argparse
import time
from collections.abc import Callable
from fractions import Fraction

import cv2
import numpy as np

from benchmarks.common import add_size, print_result
from data_pipeline.imresize import imresize


def main() -> None:
    """Measures all cases in turn, `--rounds` times, and prints the medians."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.imresize")
    add_size(parser)
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    width, height = args.size
    cv2.setNumThreads(1)
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    quarter = Fraction(1, 4)
    small = imresize(image, quarter)
    cases: dict[str, Callable[[], object]] = {
        "down_seconds": lambda: imresize(image, quarter),
        "up_seconds": lambda: imresize(small, 4),
        "opencv_cubic_down_seconds": lambda: imresize(image, quarter, "opencv"),
    }
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(args.rounds):
        for name, case in cases.items():
            start = time.perf_counter()
            case()
            seconds[name].append(time.perf_counter() - start)
    medians = {name: float(np.median(values)) for name, values in seconds.items()}
    print_result({"size": f"{width}x{height}", "cores": 1, **medians})


if __name__ == "__main__":
    main()
