"""Trains a generator on a prepared data set. The same command run again resumes."""

from argparse import ArgumentTypeError
from pathlib import Path
from shlex import quote

from jobs.command import Parser, next_job, run
from srgan.config_file import load_config
from srgan.training.driver import train
from srgan.training.dry_run import dry_run


def main() -> None:
    """Reads the arguments and trains."""
    parser = Parser(prog="python -m jobs.train", description=__doc__)
    parser.add_argument("--config", required=True, metavar="FILE", type=Path)
    parser.add_argument("--data", required=True, help="what jobs.prepare made")
    parser.add_argument("--run", required=True, help="where the run's results go")
    parser.add_argument(
        "--num-workers",
        type=_worker_range,
        metavar="N",
        help="training workers; MIN:MAX uses as many as the cluster has room for (default: as "
        "many as its GPUs hold when the job starts, at most global_batch / K; 1 on the CPU)",
    )
    parser.add_argument(
        "--gpus-per-worker",
        type=_count,
        metavar="K",
        help="GPUs of each worker; 0 trains on the CPU (default: 1; 0 on a machine without)",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="replaces a value of the configuration, as in --set batch.global_batch=8",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="train up to 50 steps of every phase, print what the run would take, leave nothing "
        "behind",
    )
    args = parser.parse_args()
    config = load_config(args.config, args.set)
    resources = {"workers": args.num_workers, "gpus": args.gpus_per_worker}
    if args.dry_run:
        report = dry_run(config, args.data, args.run, **resources)
    else:
        report = []
        train(config, args.data, args.run, **resources)
    if report:
        print(*report, "next: the same command without --dry-run", sep="\n")
    else:
        run_uri = args.run.rstrip("/")
        print(f"{run_uri}: is trained; its generators are in {run_uri}/generators")
        print(next_job("evaluate", f"--run {quote(run_uri)}"))


def _worker_range(text: str) -> tuple[int, int]:
    least, _, most = text.partition(":")
    pair = _count(least), _count(most or least)
    if not 1 <= pair[0] <= pair[1]:
        raise ArgumentTypeError(f"{text}: expected N, or MIN:MAX, as in 4 or 2:8")
    return pair


def _count(text: str) -> int:
    if not text.isdecimal():
        raise ArgumentTypeError(f"{text}: expected a whole number from 0")
    return int(text)


if __name__ == "__main__":
    run(main)
