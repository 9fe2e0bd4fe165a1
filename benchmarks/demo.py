"""The table of `make demo` and its seconds, from a run in an empty folder, after `make setup`.

python -m benchmarks.demo [NAME=VALUE ...]    variables for make, as DEMO_CONFIG and DEMO_EPOCHS
"""

import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_ROOT = Path(__file__).parent.parent


def main() -> None:
    """Runs the demo's three commands and prints their seconds and the last epoch's scores."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.monotonic()
        command = ["make", "--old-file=.venv/.installed", "demo", f"DEMO={folder}", *sys.argv[1:]]
        subprocess.run(command, cwd=_ROOT, check=True)  # noqa: S603
        total = time.monotonic() - start
        run = Path(folder, "run")
        records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        with (run / "evaluation/data/measures.csv").open() as file:
            scores = list(csv.DictReader(file))
    names = ("psnr_rgb", "psnr_y", "ssim_rgb", "ssim_y", "lpips", "lr_psnr", "grid")
    table = {row["method"]: {name: float(row[name]) for name in names} for row in scores[:-1]}
    gain = table["srresnet"]["psnr_rgb"] - table["bicubic"]["psnr_rgb"]
    result = {
        "cpus": os.cpu_count(),
        "python": sys.version.split()[0],
        "demo_seconds": round(total),
        "training_seconds": round(sum(record["seconds"] for record in records)),
        "steps": records[-1]["step"],
        "srresnet_gain_over_bicubic_db": round(gain, 2),
        "table": table,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
