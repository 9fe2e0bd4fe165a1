"""Scores nearest, bicubic, a run's generators and HR: tables, pictures and a report.

Exit code 3: everything is written, but a limit of --fail-below or --fail-drop is broken. It is told
once for a generator: the next evaluation of the same one exits with 0.
"""

import argparse
import logging
import math
import os
import sys
from typing import Any, get_args

from data_pipeline.imresize import SCALES, Kernel
from jobs.command import Parser, run
from srgan.evaluation.alerts import JUDGED, Limit, Limits
from srgan.evaluation.benchmark import Benchmark, data_benchmark, folder_benchmark
from srgan.evaluation.measures import BEST_BY
from srgan.evaluation.run_reader import folder_scale_and_kernel, open_run
from srgan.evaluation.webhook import check_webhook

_ALERT_URL = "SRGAN_ALERT_URL"

_log = logging.getLogger(__name__)


def _epoch_list(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text}: expected epochs as in 25,50,75,100") from error


def _limit(text: str) -> Limit:
    key, _, value = text.partition("=")
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if math.isnan(number):
        raise argparse.ArgumentTypeError(f"{text}: expected METRIC=NUMBER")
    if key not in JUDGED:
        raise argparse.ArgumentTypeError(f"{text}: METRIC is one of {', '.join(JUDGED)}")
    return Limit(key, number)


def _webhook(text: str) -> str:
    try:
        return check_webhook(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _environments_webhook() -> str | None:
    """The URL in the environment. One that is wrong costs no table: it is a warning."""
    url = os.environ.get(_ALERT_URL)
    try:
        return check_webhook(url) if url else None
    except ValueError as error:
        _log.warning("%s: %s; alerts are not posted", _ALERT_URL, error)
        return None


def benchmark_of(args: argparse.Namespace) -> Benchmark:
    """The images that `--run`, `--data`, `--hr`, `--lr`, `--scale` and `--kernel` name."""
    run = open_run(args.run) if args.run else None
    if args.data:
        return data_benchmark(args.data, args.kernel)
    if run and not args.hr:
        return data_benchmark(run.data_uri, args.kernel)
    scale, kernel = folder_scale_and_kernel(run, args.scale, args.kernel)
    return folder_benchmark(args.hr, args.lr, scale=scale, kernel=kernel)


def main() -> None:
    """Reads the arguments, evaluates and prints the table."""
    parser = Parser(prog="python -m jobs.evaluate", description=__doc__)
    parser.add_argument(
        "--run", help="the RUN whose generators to score; without it only the baselines"
    )
    images = parser.add_mutually_exclusive_group()
    images.add_argument(
        "--data",
        help="score the validation images of a prepared data set (default: the one of --run)",
    )
    images.add_argument("--hr", metavar="URI", help="score a folder of HR images")
    parser.add_argument(
        "--lr", metavar="URI", help="their LR images; without it, LR is made with --kernel"
    )
    parser.add_argument(
        "--out", metavar="URI", help="where the results go (default: RUN/evaluation/<name>)"
    )
    parser.add_argument(
        "--epochs",
        type=_epoch_list,
        metavar="N,N,...",
        help="the epochs to score (default: all that RUN has)",
    )
    parser.add_argument(
        "--kernel",
        choices=get_args(Kernel),
        help="kernel of the bicubic baseline and of LR that is made (default: that of DATA, or of "
        "the data set of --run; else matlab)",
    )
    parser.add_argument(
        "--scale",
        type=int,
        choices=SCALES,
        help="HR side / LR side of --hr (default: the scale of --run; without it 4)",
    )
    parser.add_argument(
        "--compare",
        nargs="+",
        default=[],
        metavar="RUN",
        help="more runs, to put into one table and report",
    )
    limit: dict[str, Any] = {"type": _limit, "action": "append", "default": []}
    parser.add_argument(
        "--fail-below",
        **limit,
        metavar="METRIC=VALUE",
        help="exit with 3 if the newest epoch scores less; METRIC is one of " + ", ".join(JUDGED),
    )
    parser.add_argument(
        "--fail-drop",
        **limit,
        metavar="METRIC=DROP",
        help="exit with 3 if it scores more than DROP less than the epoch before it in the table",
    )
    parser.add_argument(
        "--drop-from",
        metavar="RUN",
        help="measure --fail-drop from this run's newest epoch instead",
    )
    parser.add_argument(
        "--alert-url",
        type=_webhook,
        metavar="URL",
        help=f"post broken limits as JSON to this webhook (default: {_ALERT_URL})",
    )
    parser.add_argument(
        "--best-by",
        choices=BEST_BY,
        metavar="MEASURE",
        help="write to RUN/best.json which epoch is best by MEASURE: " + ", ".join(BEST_BY),
    )
    args = parser.parse_args()
    if args.lr and not args.hr:
        parser.error("--lr goes with --hr")
    if args.scale and not args.hr:
        parser.error("--scale goes with --hr")
    for option in ("epochs", "compare", "fail_below", "fail_drop", "drop_from", "best_by"):
        if getattr(args, option) and not args.run:
            parser.error(f"--{option.replace('_', '-')} goes with --run")
    if args.drop_from and not args.fail_drop:
        parser.error("--drop-from goes with --fail-drop")
    has_limits = bool(args.fail_below or args.fail_drop)
    if args.alert_url and not has_limits:
        parser.error("--alert-url goes with --fail-below or --fail-drop")
    if not (args.data or args.hr or args.run):
        parser.error("pass --data or --hr, or a --run whose data set to score")
    if not (args.run or args.out):
        parser.error("pass --out: without --run there is no other place for the results")
    benchmark = benchmark_of(args)
    # After the checks: Ray and matplotlib take seconds to import.
    from srgan.evaluation.evaluate import evaluate

    summary = evaluate(
        benchmark,
        run_uri=args.run,
        out_uri=args.out,
        epochs=args.epochs,
        compare=args.compare,
        limits=Limits(args.fail_below, args.fail_drop, args.drop_from),
        best_by=args.best_by,
        alert_url=args.alert_url or (_environments_webhook() if has_limits else None),
    )
    print(summary.tables)
    print(f"pictures, and how all this was measured: {summary.uri}")
    print(f"next: open {summary.uri}/report.html")
    if summary.alerts:
        sys.exit(3)


if __name__ == "__main__":
    run(main)
