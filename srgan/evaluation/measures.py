"""The measures of an image: one table, from which files, reports and arguments are made."""

from typing import NamedTuple


class Measure(NamedTuple):
    """A column of the tables.

    Attributes:
        key: Its name in files and arguments.
        title: Its name for people.
        unit: "dB", or "" for a number without unit.
        digits: Decimals for people.
        higher_is_better: False if lower is better.
        meaning: Its line of the protocol. It is stored with the scores: another text makes stored
            scores another protocol's, and they are refused.
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
        "luma's energy at periods of 4 and 2 px over that nearby, over HR's: 1, or more with a grid",
    ),
    Measure("vgg22", "VGG22", "", 3, False, _FEATURES.format("block2_conv2")),
    Measure("vgg54", "VGG54", "", 4, False, _FEATURES.format("block5_conv4")),
    Measure("lpips", "LPIPS", "", 4, False, "v0.1 with AlexNet; a grey image as RGB"),
    Measure("niqe", "NIQE", "", 2, False, "no reference, by pyiqa, where it is installed"),
)

Values = dict[str, float]
"""Measures of an image, or means of a method, by key; what was not measured is missing."""
