"""Photographs -> a data set of HR/LR patch shards."""

import typing

from data_pipeline.build import prepare
from data_pipeline.imresize import Kernel
from data_pipeline.manifest import DataSettings
from data_pipeline.shards import ShardFormat
from data_pipeline.sources import SAMPLES, canonical_uri
from jobs.command import Parser, run


def main() -> None:
    """Reads the arguments and prepares the data set."""
    parser = Parser(prog="python -m jobs.prepare", description=__doc__)
    parser.add_argument(
        "--source",
        required=True,
        help=f"'{SAMPLES}' (photographs that ship with scikit-image) or a folder of images",
    )
    parser.add_argument("--out", required=True, metavar="DATA", help="where the data set goes")
    parser.add_argument(
        "--valid-source",
        metavar="SOURCE",
        help=f"validation images; for '{SAMPLES}' its own are the default, else there are none",
    )
    parser.add_argument("--format", choices=typing.get_args(ShardFormat), default="arrow")
    parser.add_argument("--scale", type=int, default=4, help="HR side / LR side (default: 4)")
    parser.add_argument(
        "--kernel",
        choices=typing.get_args(Kernel),
        default="matlab",
        help="how LR is made from HR; matlab is what papers use (default)",
    )
    parser.add_argument(
        "--patch-size", type=int, default=480, help="HR patch side in pixels (default: 480)"
    )
    parser.add_argument(
        "--stride", type=int, default=240, help="HR pixels between patches (default: 240)"
    )
    args = parser.parse_args()
    valid_source = args.valid_source or (SAMPLES if args.source == SAMPLES else None)
    settings = DataSettings(
        source=canonical_uri(args.source),
        valid_source=canonical_uri(valid_source) if valid_source else None,
        format=args.format,
        scale=args.scale,
        kernel=args.kernel,
        patch_size=args.patch_size,
        stride=args.stride,
    )
    manifest = prepare(settings, args.out)
    print(
        f"{args.out}: {manifest.num_patches} patches in {len(manifest.shards)} shards, "
        f"{len(manifest.valid)} validation images"
    )


if __name__ == "__main__":
    run(main)
