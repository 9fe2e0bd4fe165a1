"""Trains a generator on a prepared data set; the same command said again goes on."""

from pathlib import Path

from jobs.command import Parser, run
from srgan.config import load_config
from srgan.training.run import train


def main() -> None:
    """Reads the arguments and trains."""
    parser = Parser(prog="python -m jobs.train", description=__doc__)
    parser.add_argument("--config", required=True, metavar="FILE", type=Path)
    parser.add_argument("--data", required=True, help="what jobs.prepare made")
    parser.add_argument("--run", required=True, help="where the run's results go")
    parser.add_argument(
        "--gpus-per-worker",
        type=int,
        metavar="K",
        help="GPUs to mirror over; 0 trains on the CPU (default: all of a node's GPUs)",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="replaces a value of the configuration, as in --set batch.global_batch=8",
    )
    args = parser.parse_args()
    config = load_config(args.config, args.set)
    train(config, args.data, args.run, gpus=args.gpus_per_worker)


if __name__ == "__main__":
    run(main)
