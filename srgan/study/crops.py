"""Which parts of an evaluation's images a study shows. Pure."""

import random
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from data_pipeline.images import Image
from srgan.evaluation.comparison import detail

# The largest of these sides that gives enough crops is used. The first one fits into a small
# laptop's window, and is not too small on a phone, whose pixels are three times as fine.
SIDES = (320, 256, 192, 128, 96, 64)

CALIBRATION, GOLD = 2, 2  # crops, beside those that are scored


class Crop(NamedTuple):
    """A part of an image.

    Attributes:
        image: The image's name.
        box: Top, left, height and width in the HR image, in pixels.
        texture: Mean square of HR's Laplacian in it.
    """

    image: str
    box: tuple[int, int, int, int]
    texture: float

    def of(self, image: Image) -> Image:
        """This part of an image of HR's size: uint8 [height, width, C]."""
        top, left, height, width = self.box
        return image[top : top + height, left : left + width]


class ChosenCrops(NamedTuple):
    """The crops of a study; none is in two of the lists.

    Attributes:
        scored: Half of them the most textured, half at random.
        calibration: Shown first, with their scores. They are textured, as methods differ there.
        gold: Likewise textured, for questions whose answers are known.
    """

    scored: list[Crop]
    calibration: list[Crop]
    gold: list[Crop]


def crops_of(name: str, hr: Image, side: int) -> Iterator[Crop]:
    """The squares of a grid in the middle of an image, without overlap.

    Args:
        name: The image's name.
        hr: uint8 [H, W, C].
        side: Of a square, in pixels.

    Yields:
        None for an image that is smaller than a square.
    """
    squares = detail(hr)
    rows, columns = hr.shape[0] // side, hr.shape[1] // side
    for row in range(rows):
        for column in range(columns):
            top = (hr.shape[0] - rows * side) // 2 + row * side
            left = (hr.shape[1] - columns * side) // 2 + column * side
            texture = float(squares[top : top + side, left : left + side].mean())
            yield Crop(name, (top, left, side, side), texture)


def choose_crops(crops: Sequence[Crop], count: int, rng: random.Random) -> ChosenCrops | None:
    """Chooses `count` crops to score, and those for calibration and gold questions.

    The most textured are first the most textured crop of every image, by texture; then the second
    of every image, and so on. So one image does not give them all.

    Returns:
        None if there are too few crops.
    """
    if len(crops) < count + CALIBRATION + GOLD:
        return None
    by_image: dict[str, list[Crop]] = {}
    for crop in sorted(crops, key=lambda one: (-one.texture, one)):
        by_image.setdefault(crop.image, []).append(crop)
    ranked = sorted(
        ((rank, -crop.texture, crop) for row in by_image.values() for rank, crop in enumerate(row))
    )
    textured = [crop for _, _, crop in ranked]
    half = count - count // 2
    examples = textured[half : half + CALIBRATION + GOLD]
    rest = sorted(textured[half + CALIBRATION + GOLD :])
    return ChosenCrops(
        textured[:half] + rng.sample(rest, count // 2),
        examples[:CALIBRATION],
        examples[CALIBRATION:],
    )
