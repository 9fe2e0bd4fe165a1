"""An opinion study: makes one from an evaluation, collects ratings, scores them."""

import argparse
from pathlib import Path
from shlex import quote
from typing import get_args

from data_pipeline.imresize import Kernel
from data_pipeline.platform.errors import UserError
from jobs.command import Parser, next_job, run
from srgan.study.files import study_folder

_EXTRA = "pip install 'srgan-distributed[study]'"


def _parser() -> Parser:
    parser = Parser(prog="python -m jobs.study", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="make|serve|score")
    make = commands.add_parser("make", help="cut crops of an evaluation's images and plan a study")
    make.add_argument("--run", required=True, help="the RUN whose evaluation has the pictures")
    images = make.add_mutually_exclusive_group()
    images.add_argument("--data", help="as of jobs.evaluate: the data set that was evaluated")
    images.add_argument("--hr", metavar="URI", help="as of jobs.evaluate: the folder of HR images")
    make.add_argument("--lr", metavar="URI", help="as of jobs.evaluate: their LR images")
    make.add_argument("--kernel", choices=get_args(Kernel), help="as of jobs.evaluate")
    make.add_argument("--out", required=True, metavar="STUDY", help="a local folder")
    make.add_argument(
        "--epoch", type=int, metavar="N", help="the epoch of SRGAN (default: the newest evaluated)"
    )
    make.add_argument(
        "--pairs", action="store_true", help="ask which of two looks better, not for 1 to 5"
    )
    make.add_argument(
        "--crops", type=int, metavar="N", help="crops to score (default: 16, with --pairs 8)"
    )
    make.add_argument(
        "--crop-size",
        type=int,
        metavar="N",
        help="side of a crop in pixels (default: 320, or less if the images are small)",
    )
    make.add_argument(
        "--seed", type=int, metavar="N", help="of choice and order (default: a random one)"
    )
    make.add_argument(
        "--pages",
        type=int,
        default=0,
        metavar="N",
        help="also write N pages for raters that need no server (default: 0)",
    )
    make.set_defaults(scale=None)
    serve = commands.add_parser("serve", help="let raters rate in their browsers")
    serve.add_argument("--study", required=True)
    serve.add_argument(
        "--host", default="127.0.0.1", help="the address to listen on (default: 127.0.0.1)"
    )
    serve.add_argument("--port", type=int, default=8000, help="0 takes a free one (default: 8000)")
    serve.add_argument("--token", help="a word that raters need; it is in the link that is printed")
    score = commands.add_parser("score", help="mean opinion scores of what was collected")
    score.add_argument("--study", required=True)
    score.add_argument(
        "--ratings", nargs="+", type=Path, default=[], metavar="FILE", help="files that raters sent"
    )
    score.add_argument(
        "--simulate",
        type=int,
        metavar="N",
        help="instead of real ratings: what a panel of N simulated raters would find",
    )
    return parser


def main() -> None:
    """Reads the arguments; makes, serves or scores a study."""
    parser = _parser()
    args = parser.parse_args()
    try:
        {"make": _make, "serve": _serve, "score": _score}[args.command](args, parser)
    except ModuleNotFoundError as error:
        raise UserError(f"the Python package {error.name} is missing; {_EXTRA}") from error


def _make(args: argparse.Namespace, parser: Parser) -> None:
    if args.lr and not args.hr:
        parser.error("--lr goes with --hr")
    for name in ("crops", "crop_size"):
        if getattr(args, name) is not None and not 0 < getattr(args, name) <= 4096:
            parser.error(f"--{name.replace('_', '-')}: expected 1 to 4096")
    study = study_folder(args.out)
    from jobs.evaluate import benchmark_of

    benchmark = benchmark_of(args)
    # After the checks: TensorFlow takes seconds to import.
    from srgan.study.make import StudySettings, describe, make_study

    # Either takes a rater about a quarter of an hour: ten pairs of a crop, or five methods.
    crops = args.crops or (8 if args.pairs else 16)
    settings = StudySettings(
        "pairs" if args.pairs else "acr", crops, args.crop_size, args.seed, args.pages
    )
    about = make_study(benchmark, args.run, study, args.epoch, settings)
    print(*describe(about), sep="\n")
    print(f"{study}: is a study; only you may see what is in it")
    print(next_job("study", f"serve --study {quote(str(study))}"))


def _serve(args: argparse.Namespace, parser: Parser) -> None:
    if not 0 <= args.port < 65536:
        parser.error("--port: expected 0 to 65535")
    study = study_folder(args.study)
    from srgan.study.server import serve

    def say(link: str) -> None:
        print(f"raters open {link}", flush=True)
        print("stop with Ctrl-C; the same command again goes on", flush=True)

    serve(study, args.host, args.port, args.token, say)
    print(next_job("study", f"score --study {quote(str(study))}"))


def _score(args: argparse.Namespace, parser: Parser) -> None:
    if args.ratings and args.simulate is not None:
        parser.error("--simulate does not go with --ratings: simulated ratings are never mixed in")
    study = study_folder(args.study)
    from srgan.study.score import score

    print(score(study, ratings=args.ratings, simulate=args.simulate).table)


if __name__ == "__main__":
    run(main)
