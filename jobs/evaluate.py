"""Scores nearest, bicubic, a run's generators and HR: PSNR and SSIM, tables and pictures."""

import argparse
import typing

from data_pipeline.imresize import Kernel
from data_pipeline.storage import open_storage
from jobs.command import Parser, run
from srgan.evaluation.benchmark import data_benchmark, folder_benchmark
from srgan.evaluation.run import evaluate

_SCALE = 4


def _epoch_list(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text}: expected epochs as in 25,50,75,100") from error


def main() -> None:
    """Reads the arguments, evaluates and prints the table."""
    parser = Parser(prog="python -m jobs.evaluate", description=__doc__)
    parser.add_argument("--run", help="whose generators to score; without it only baselines")
    images = parser.add_mutually_exclusive_group(required=True)
    images.add_argument("--data", help="score the validation images of a prepared data set")
    images.add_argument("--hr", metavar="URI", help="score a folder of HR images")
    parser.add_argument("--lr", metavar="URI", help="their LR images; else made with --kernel")
    parser.add_argument(
        "--out", metavar="URI", help="where the results go (default: RUN/evaluation/<name>)"
    )
    parser.add_argument(
        "--epochs", type=_epoch_list, metavar="N,N,...", help="default: all that RUN has"
    )
    parser.add_argument(
        "--kernel",
        choices=typing.get_args(Kernel),
        help="of the bicubic baseline and of generated LR (default: DATA's, else matlab)",
    )
    args = parser.parse_args()
    if args.lr and not args.hr:
        parser.error("--lr goes with --hr")
    if args.epochs and not args.run:
        parser.error("--epochs goes with --run")
    kernel: Kernel | None = args.kernel
    benchmark = (
        data_benchmark(args.data, kernel)
        if args.data
        else folder_benchmark(args.hr, args.lr, scale=_SCALE, kernel=kernel or "matlab")
    )
    kernel = kernel or benchmark.lr_kernel or "matlab"
    out = evaluate(benchmark, run_uri=args.run, out_uri=args.out, epochs=args.epochs, kernel=kernel)
    print(open_storage(out).read("psnr.md").decode())
    print(f"more in {out}")


if __name__ == "__main__":
    run(main)
