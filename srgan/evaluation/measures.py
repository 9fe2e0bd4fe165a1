"""The measures of an image: one table, from which files, reports and arguments are made."""

from typing import NamedTuple


class Measure(NamedTuple):
    """A column of the tables.

    Attributes:
        key: Its name in files and arguments.
        title: Its name for people.
        unit: As "dB", or "" for a number without unit.
        digits: Decimals for people.
        higher_is_better: False if lower is better.
        meaning: Its line of the protocol. It is stored with the scores: another text makes stored
            scores outdated, and they are made again.
    """

    key: str
    title: str
    unit: str
    digits: int
    higher_is_better: bool
    meaning: str


_FEATURES = (
    "mean squared difference of the run's VGG19 features ({} after activation, x 1/12.75), "
    "centre 256x256 px at most"
)

MEASURES = (
    Measure("psnr_rgb", "PSNR RGB", "dB", 2, True, "over R, G and B; per image, then the mean"),
    Measure("psnr_y", "PSNR Y", "dB", 2, True, "over luma 16 to 235; a grey image on its values"),
    Measure("ssim_rgb", "SSIM RGB", "", 4, True, "11x11 Gaussian, sigma 1.5, whole windows"),
    Measure("ssim_y", "SSIM Y", "", 4, True, "the same over luma"),
    Measure(
        "lpips", "LPIPS", "", 4, False, "AlexNet, v0.1; the border is cut; a grey image as RGB"
    ),
    Measure(
        "lr_psnr",
        "LR PSNR",
        "dB",
        2,
        True,
        "PSNR between the bicubic-downscaled image and LR, 2 LR px cut: low when colours shift",
    ),
    Measure(
        "grid",
        "Grid",
        "",
        2,
        False,
        "1 + energy of a grid that HR lacks, over HR's at its periods (x4: 4 and 2 px); of luma",
    ),
    Measure("vgg22", "VGG22", "", 3, False, _FEATURES.format("block2_conv2")),
    Measure("vgg54", "VGG54", "", 4, False, _FEATURES.format("block5_conv4")),
    Measure("niqe", "NIQE", "", 2, False, "no reference, by pyiqa, where it is installed"),
    Measure("parameters", "Parameters", "M", 2, False, "of the generator, in millions"),
    Measure(
        "gflops",
        "GFLOPs",
        "per MP",
        1,
        False,
        "of the generator's convolutions for a megapixel of SR, two for each multiplication",
    ),
)

BEST_BY = tuple(one.key for one in MEASURES if one.key not in ("parameters", "gflops"))
"""The measures that an epoch can be the best of."""

Values = dict[str, float]
"""Measures of an image, or means of a method, by key; what was not measured is missing."""


def taken(**values: float | None) -> Values:
    """The measures by key, without those that are None: they cannot be taken of an image."""
    return {key: value for key, value in values.items() if value is not None}
