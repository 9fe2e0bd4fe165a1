"""Parts that several benchmarks use: images of DIV2K's size, settings, medians, the output."""

import argparse
import json
import random
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from data_pipeline.images import SUFFIXES, Image
from data_pipeline.manifest import DataSettings
from data_pipeline.shards import ShardFormat

Figures = dict[str, float]

FORMATS: tuple[ShardFormat, ...] = ("arrow", "tfrecord")
SCALE, PATCH, STRIDE = 4, 480, 240
PNG = (cv2.IMWRITE_PNG_COMPRESSION, 3)

Size = tuple[int, int]

_LARGEST_SQUARE = 512


def add_size(parser: argparse.ArgumentParser, default: str = "2040x1356") -> None:
    """Adds `--size`, which is that of most DIV2K images by default; tests use a smaller one."""
    parser.add_argument("--size", type=parse_size, default=default, metavar="WIDTHxHEIGHT")


def parse_size(text: str) -> Size:
    """`WIDTHxHEIGHT` as two numbers."""
    width, _, height = text.partition("x")
    return int(width), int(height)


def image_files(photographs: str | None, folder: Path, mosaics: int, size: Size) -> list[Path]:
    """Files of images of one size.

    They are mosaics of squares that are cut from photographs, without noise or enlargement. PNG
    needs as many bytes a pixel, and as much time, as for the photographs.

    Args:
        photographs: A folder; None for those that ship with scikit-image.
        folder: Where the mosaics go.
        mosaics: How many; 0 for the photographs as they are.
        size: Their width and height.
    """
    files = _files(photographs)
    if not mosaics:
        return files
    folder.mkdir()
    images = [read(file) for file in files]
    side = min(_LARGEST_SQUARE, *(length for image in images for length in image.shape[:2]))
    width, height = size
    rows, columns = -(-height // side), -(-width // side)
    draw = random.Random(0)  # noqa: S311
    rest: list[Image] = []
    made = []
    for number in range(mosaics):
        squares = []
        for _ in range(rows * columns):
            rest = rest or draw.sample(images, len(images))
            image = rest.pop()
            top, left = (draw.randint(0, length - side) for length in image.shape[:2])
            squares.append(image[top : top + side, left : left + side])
        bands = [np.hstack(squares[row * columns : (row + 1) * columns]) for row in range(rows)]
        made.append(folder / f"{number:04}.png")
        cv2.imwrite(str(made[-1]), np.vstack(bands)[:height, :width], PNG)
    return made


def _files(photographs: str | None) -> list[Path]:
    if photographs:
        return sorted(file for file in Path(photographs).iterdir() if file.suffix in SUFFIXES)
    import skimage

    names = ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg")
    return [Path(skimage.__file__).parent / "data" / name for name in names]


def read(path: Path | str) -> Image:
    """Reads an image file as OpenCV does, uint8 BGR [H, W, 3]."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    assert image is not None, path
    return np.asarray(image, np.uint8)


def describe_images(files: Sequence[Path]) -> dict[str, object]:
    """Their number, their largest size, and their bytes a pixel, which decoding depends on."""
    sizes = [read(file).shape for file in files]
    pixels = sum(height * width for height, width, _ in sizes)
    return {
        "images": len(files),
        "largest_image": "{1}x{0}".format(*max(sizes)),
        "megapixels": pixels / 1e6,
        "source_bytes_per_pixel": sum(file.stat().st_size for file in files) / pixels,
        "opencv": cv2.__version__,
    }


def data_settings(shard_format: ShardFormat, source: Path) -> DataSettings:
    """480/240 patches for x4, LR by MATLAB's kernel."""
    return DataSettings(
        source=str(source),
        valid_source=None,
        format=shard_format,
        scale=SCALE,
        kernel="matlab",
        patch_size=PATCH,
        stride=STRIDE,
    )


def folder_bytes(folder: Path) -> int:
    """Bytes of all files in a folder and its subfolders."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def medians(runs: Sequence[Figures]) -> Figures:
    """The median of every figure over the runs."""
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def print_result(result: Mapping[str, object]) -> None:
    """Prints one JSON object as the last line; numbers have four significant digits."""
    print(json.dumps(json.loads(json.dumps(result), parse_float=_short)))


def _short(text: str) -> float:
    number = float(text)
    return round(number) if abs(number) >= 1000 else float(f"{number:.4g}")
