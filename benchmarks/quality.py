"""What the recommended recipe reaches in half an hour on two CPU cores, seed by seed.

python -m benchmarks.quality FOLDER --source TRAIN --valid-source VALID --benchmarks Set5 Set14
                             --lpips-weights URI [--seeds 0 1 2] [--config benchmarks/quality.yaml]

TRAIN and VALID are what `jobs.prepare` takes; a benchmark is a folder with HR/ and LR_x4/. FOLDER
holds the data set and a run for each seed. The same command run again goes on where it was stopped.
Scores are of the generator after the first phase (`srresnet`) and after the last epoch (`srgan`).
"""

import argparse
import csv
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import Figures, print_result
from data_pipeline.platform.storage import open_storage
from srgan.metrics_log import read_metrics

_ROOT = Path(__file__).parent.parent
_MEASURES = ("psnr_y", "ssim_y", "lpips", "grid", "lr_psnr")
_METHODS = ("bicubic", "srresnet", "srgan")
# Small patches at a small stride: an epoch has hundreds of steps, so few saves and validations.
_PATCHES = ("--patch-size", "128", "--stride", "64")


def main() -> None:
    """Prepares, trains and scores what is not there yet, and prints the figures of all seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--source", required=True)
    parser.add_argument("--valid-source")
    parser.add_argument("--benchmarks", nargs="+", required=True, type=Path, metavar="FOLDER")
    parser.add_argument("--lpips-weights", required=True, metavar="URI")
    parser.add_argument("--seeds", nargs="+", default=[0, 1, 2], type=int)
    parser.add_argument("--config", default=_ROOT / "benchmarks/quality.yaml", type=Path)
    args = parser.parse_args()
    data = str(args.folder / "data")
    valid = ("--valid-source", args.valid_source) if args.valid_source else ()
    _job("prepare", "--source", args.source, *valid, *_PATCHES, "--out", data)
    runs = []
    for seed in args.seeds:
        run = args.folder / f"run-{seed}"
        settings = (f"seed={seed}", f"lpips_weights={args.lpips_weights}")
        given = [f"--set={setting}" for setting in settings]
        _job("train", "--config", str(args.config), "--data", data, "--run", str(run), *given)
        runs.append({"seed": seed} | _figures(run, args.benchmarks))
    machine = {"cpu": _cpu_model(), "cpus": len(os.sched_getaffinity(0))}
    print_result({"machine": machine, "config": args.config.name, "seeds": runs})


def _job(name: str, *arguments: str) -> None:
    command = [sys.executable, "-m", f"jobs.{name}", *arguments]
    subprocess.run(command, cwd=_ROOT, check=True)  # noqa: S603


def _figures(run: Path, benchmarks: Sequence[Path]) -> dict[str, Any]:
    """A run's seconds and steps by phase, D's answers, and its scores by benchmark and method."""
    records = read_metrics(open_storage(str(run)))
    seconds: Figures = {}
    for record in records:
        seconds[record["phase"]] = seconds.get(record["phase"], 0.0) + record["seconds"]
    answers = {
        name: [
            function(record[name] for record in records if name in record)
            for function in (min, max)
        ]
        for name in ("d_hr", "d_sr")
    }
    scores = {one.name: _scores(run, one, records[-1]["epoch"]) for one in benchmarks}
    return {"seconds": seconds, "steps": records[-1]["step"], **answers, "scores": scores}


def _scores(run: Path, benchmark: Path, epoch: int) -> dict[str, Figures]:
    """Means over a benchmark's images by method."""
    out = run / "evaluation" / benchmark.name
    images = ("--hr", str(benchmark / "HR"), "--lr", str(benchmark / "LR_x4"))
    _job("evaluate", "--run", str(run), *images, "--out", str(out), "--epochs", str(epoch))
    with (out / "measures.csv").open() as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    return {method: {name: float(rows[method][name]) for name in _MEASURES} for method in _METHODS}


def _cpu_model() -> str:
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.M)
    return found[1] if found else "unknown"


if __name__ == "__main__":
    main()
