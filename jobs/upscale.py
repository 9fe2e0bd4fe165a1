"""Upscales pictures by a trained generator: a file, a folder with its subfolders, or a pattern.

The same command said again makes what is missing. Exit code 2: a picture cannot be upscaled; it is
named, and all others are done.
"""

import argparse
import logging
from pathlib import Path

from data_pipeline.pictures.formats import FORMATS, format_of_suffix
from data_pipeline.platform.errors import UserError
from jobs.command import Parser, epoch, run
from srgan.generator_choice import choose_generator
from srgan.generator_scale import stored_scale
from srgan.upscaling.plan import Plan, plan
from srgan.upscaling.settings import Settings

_log = logging.getLogger(__name__)


def _quality(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 100:
        raise argparse.ArgumentTypeError(f"{text}: expected 1 to 100")
    return int(text)


def main() -> None:
    """Reads the arguments, upscales and says what was made."""
    parser = Parser(prog="python -m jobs.upscale", description=__doc__)
    weights = parser.add_mutually_exclusive_group(required=True)
    weights.add_argument("--run", help="the RUN whose generator to use")
    weights.add_argument("--weights", metavar="URI", help="a generator's file, as jobs.train saves")
    parser.add_argument(
        "--epoch",
        type=epoch,
        metavar="N|best",
        help="the generator of RUN to use; best: the one that jobs.evaluate --best-by chose "
        "(default: the newest)",
    )
    parser.add_argument(
        "input",
        metavar="INPUT",
        help="a picture, a folder or s3:// prefix, or a pattern in quotes, as 'photos/**/*.jpg'",
    )
    parser.add_argument(
        "output",
        metavar="OUTPUT",
        help="a folder or prefix; for one picture also the name of the result",
    )
    parser.add_argument(
        "--ext", choices=FORMATS, help="the format of the results (default: each picture's own)"
    )
    parser.add_argument(
        "--quality", type=_quality, metavar="1..100", help="of JPEG and WebP (default: 95)"
    )
    parser.add_argument(
        "--outscale",
        type=float,
        metavar="X",
        help="the result's side over the picture's, at most the generator's scale, which is the "
        "default",
    )
    parser.add_argument(
        "--self-ensemble",
        action="store_true",
        help="the mean over eight flips and turns: a little better, 8 times the time",
    )
    parser.add_argument(
        "--colour-fix",
        action="store_true",
        help="gives SR the low frequencies of LR: colours do not drift",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="deletes the results that are there first, and makes them anew",
    )
    args = parser.parse_args()
    if args.epoch is not None and not args.run:
        parser.error("--epoch goes with --run")
    planned = plan(args.input, args.output, ext=args.ext)
    _check_quality(planned, args.quality)
    generator = choose_generator(args.run or args.weights, args.epoch)
    if not (scale := stored_scale(generator.data)):
        raise UserError(f"{generator.uri}: is no generator that Keras can load; pass another one")
    if scale == 1:  # a discriminator, say
        raise UserError(f"{generator.uri}: does not enlarge; pass a generator")
    if args.outscale is not None and not 0 < args.outscale <= scale:
        raise UserError(
            f"--outscale {args.outscale:g}: expected above 0 and at most {scale}, this "
            "generator's scale"
        )
    settings = Settings(
        input=planned.source.uri,
        generator=generator.name,
        sha256=generator.sha256,
        scale=scale,
        outscale=args.outscale or float(scale),
        self_ensemble=args.self_ensemble,
        colour_fix=args.colour_fix,
        ext=args.ext,
        quality=args.quality,
    )
    # After the checks: Ray takes seconds to import.
    from srgan.upscaling.upscale_job import upscale_missing

    summary = upscale_missing(planned, generator.uri, settings, overwrite=args.overwrite)
    if not planned.is_file:
        place = planned.target.uri
    else:
        place = f"{planned.target.uri}/{planned.works[0].target}"
        if summary.there:
            print(f"{place}: is there already; --overwrite makes it anew")
            return
    if not summary.made:
        print(f"{place}: complete, nothing to do")
        return
    there = f" ({summary.there} were there)" if summary.there else ""
    print(
        f"upscaled {summary.made} picture(s){there}, x{settings.outscale:g}, {generator.name}: "
        f"{place}"
    )


def _check_quality(planned: Plan, quality: int | None) -> None:
    """Says the quality of formats that have one. Raises UserError if it is given in vain."""
    kinds = {format_of_suffix(Path(work.target)) for work in planned.works}
    defaults = {kind.name: kind.quality for kind in kinds if kind and kind.quality}
    if quality is not None and not defaults:
        raise UserError("--quality goes with JPEG and WebP, and no picture becomes one")
    for name, default in sorted(defaults.items()):
        _log.info("writes %s of quality %d (--quality)", name, quality or default)


if __name__ == "__main__":
    run(main)
