"""Photographs -> a data set of HR/LR patch shards."""

import argparse
import typing
from pathlib import PurePosixPath
from shlex import quote

from data_pipeline.imresize import SCALES, Kernel
from data_pipeline.manifest import DataSettings, Manifest, require_manifest
from data_pipeline.platform.errors import UserError
from data_pipeline.platform.storage import LocalStorage, open_file, open_storage
from data_pipeline.prepare.build import prepare
from data_pipeline.prepare.describe import agreement, contact_sheet, sample_pairs, summary
from data_pipeline.prepare.sources import DIV2K, SAMPLES, canonical_uri
from data_pipeline.prepare.verify import verify, verify_sources
from data_pipeline.shards import ShardFormat
from jobs.command import Parser, next_job, run

_FOLDER = "a folder or s3:// prefix of images"


def _parser() -> Parser:
    parser = Parser(prog="python -m jobs.prepare", description=__doc__)
    parser.add_argument(
        "--source",
        help=f"'{DIV2K}' (downloaded), '{SAMPLES}' (photographs that ship with scikit-image) "
        f"or {_FOLDER}",
    )
    parser.add_argument(
        "--out", metavar="DATA", help="where the data set goes: a folder or s3:// prefix"
    )
    parser.add_argument(
        "--valid-source",
        metavar="SOURCE",
        help=f"validation images; for '{DIV2K}' and '{SAMPLES}' their own are the default, else "
        "there are none",
    )
    parser.add_argument(
        "--lr-source", metavar="URI", help=f"LR of the training images, {_FOLDER}; else made"
    )
    parser.add_argument("--valid-lr-source", metavar="URI", help="LR of the validation images")
    parser.add_argument(
        "--mirror",
        metavar="URI",
        help="where DIV2K's archives are instead of the official site: http(s)://, or a folder "
        "or s3:// prefix with the archives or their images",
    )
    parser.add_argument("--format", choices=typing.get_args(ShardFormat), default="arrow")
    parser.add_argument(
        "--scale", type=int, choices=SCALES, default=4, help="HR side / LR side (default: 4)"
    )
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
    parser.add_argument(
        "--verify",
        metavar="DATA",
        help="instead: read every byte of a data set again; with --source also every file that it "
        "was made of",
    )
    parser.add_argument(
        "--describe",
        metavar="DATA",
        help="instead: say what a data set holds and write a picture of random pairs to --out "
        "(default: ./NAME-pairs.png)",
    )
    return parser


def main() -> None:
    """Reads the arguments; prepares, verifies or describes a data set."""
    parser = _parser()
    args = parser.parse_args()
    if sum(map(bool, (args.source and not args.verify, args.verify, args.describe))) != 1:
        parser.error("pass one of --source, --verify and --describe")
    for option in ("valid_source", "lr_source", "valid_lr_source", "mirror"):
        if getattr(args, option) and not args.source:
            parser.error(f"--{option.replace('_', '-')} goes with --source")
    if args.verify:
        _verify(args)
    elif args.describe:
        _describe(args.describe, args.out)
    else:
        if not args.out:
            parser.error("--out is missing")
        _prepare(args)


def _verify(args: argparse.Namespace) -> None:
    sources = {
        name: canonical_uri(uri)
        for name in ("source", "valid_source", "lr_source", "valid_lr_source")
        if (uri := getattr(args, name))
    }
    if sources:
        print(f"{args.source}: {verify_sources(args.verify, sources, mirror=args.mirror)}")
    manifest = verify(args.verify)
    print(f"{args.verify}: all {len(manifest.records)} parts are what the manifest says")
    _print_next(args.verify, manifest)


def _describe(uri: str, out: str | None) -> None:
    storage = open_storage(uri)
    manifest = require_manifest(storage)
    print(summary(storage, manifest))
    out = out or f"{PurePosixPath(storage.uri).name}-pairs.png"
    pictures, name = open_file(out)
    if not name or (isinstance(pictures, LocalStorage) and pictures.path(name).is_dir()):
        raise UserError(f"--out {out}: is a folder; pass the picture's name, as in pairs.png")
    pairs = sample_pairs(storage, manifest)
    print(agreement(pairs, manifest.settings))
    pictures.write(name, contact_sheet(pairs, scale=manifest.settings.scale))
    print(f"pairs of LR and HR in {pictures.uri}/{name}")
    _print_next(uri, manifest)


def _prepare(args: argparse.Namespace) -> None:
    own = args.source if args.source in (DIV2K, SAMPLES) else None
    sources = (args.source, args.valid_source or own, args.lr_source, args.valid_lr_source)
    source, valid, lr, valid_lr = (uri and canonical_uri(uri) for uri in sources)
    settings = DataSettings(
        source=source,
        valid_source=valid,
        lr_source=lr,
        valid_lr_source=valid_lr,
        format=args.format,
        scale=args.scale,
        kernel=args.kernel,
        patch_size=args.patch_size,
        stride=args.stride,
    )
    manifest = prepare(settings, args.out, mirror=args.mirror)
    print(
        f"{args.out}: {manifest.num_patches} patches in {len(manifest.shards)} shards, "
        f"{len(manifest.valid)} validation images"
    )
    _print_next(args.out, manifest)


def _print_next(data: str, manifest: Manifest) -> None:
    settings = manifest.settings
    config, crop = ("demo", 48) if settings.source == SAMPLES else ("div2k_100_epochs", 96)
    arguments = f"--config configs/{config}.yaml --data {quote(data)} --run RUN"
    if settings.patch_size < crop:  # a crop must fit into a patch
        arguments += f" --set batch.hr_crop={settings.patch_size}"
    print(next_job("train", arguments))


if __name__ == "__main__":
    run(main)
