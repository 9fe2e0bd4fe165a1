"""Writes a trained generator for other programs: Keras, SavedModel or ONNX, with a model card."""

from jobs.command import Parser, epoch, run

_FORMATS = ("keras", "saved_model", "onnx")


def main() -> None:
    """Reads the arguments, exports and says how far the export is from Keras."""
    parser = Parser(prog="python -m jobs.export", description=__doc__)
    parser.add_argument("--run", required=True, help="the RUN that has the generator")
    parser.add_argument(
        "--epoch", type=epoch, metavar="N|best", help="its epoch (default: the newest)"
    )
    parser.add_argument("--format", required=True, choices=_FORMATS)
    parser.add_argument(
        "out", metavar="OUT", help="where the export goes: a folder or s3:// prefix"
    )
    args = parser.parse_args()
    # After the checks: TensorFlow takes seconds to import.
    from srgan.export.export import CARD, export

    summary = export(args.run, args.out, args.format, epoch=args.epoch)
    if summary.difference is None:
        print(f"{summary.uri}: holds this export already, nothing to do")
        return
    print(f"{args.format}: {summary.difference}")
    print(
        f"{summary.uri}: {summary.generator}, x{summary.scale}, as {args.format}; "
        f"how to load it: {summary.uri}/{CARD}"
    )


if __name__ == "__main__":
    run(main)
