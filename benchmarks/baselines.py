"""Nearest and bicubic on benchmark sets, to compare with published figures.

python -m benchmarks.baselines FOLDER...    each FOLDER holds HR/ and LR_x4/, as Set5 and Set14 do
"""

import csv
import json
import sys
import tempfile
from pathlib import Path

from srgan.evaluation.benchmark import folder_benchmark
from srgan.evaluation.evaluate import evaluate


def main() -> None:
    """Enlarges each folder's LR files and prints the scores by folder and method."""
    result = {}
    for folder in map(Path, sys.argv[1:]):
        benchmark = folder_benchmark(
            str(folder / "HR"), str(folder / "LR_x4"), scale=4, kernel="matlab"
        )
        with tempfile.TemporaryDirectory() as out:
            evaluate(benchmark, run_uri=None, out_uri=out, epochs=None)
            with Path(out, "scores.csv").open() as file:
                rows = list(csv.DictReader(file))
        result[benchmark.name] = {
            row["method"]: {
                name: float(row[name]) if row[name] else None  # no image has a finite value
                for name in ("psnr_rgb", "psnr_y", "ssim_y")
            }
            for row in rows
            if row["method"] != "hr"
        }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
