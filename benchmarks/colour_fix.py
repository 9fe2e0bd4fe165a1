"""What the colour fix does to a generator's images: LR PSNR, PSNR and LPIPS for several sigmas.

python -m benchmarks.colour_fix --run RUN --hr Set5/HR Set14/HR

LR is made with MATLAB's kernel. `none` is without the fix, and sigma 0 without its Gaussian.
"""

import argparse
import statistics
from fractions import Fraction
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from benchmarks.common import Figures, print_result
from data_pipeline.images import as_rgb, decode_image
from data_pipeline.imresize import imresize
from data_pipeline.pairs import lr_psnr
from data_pipeline.patches import crop_to_multiple
from srgan import colour_fix, upscale
from srgan.evaluation.perceptual import lpips_value
from srgan.evaluation.psnr_ssim import score
from srgan.trained import TrainedGenerator, open_generator

_SIGMAS = (None, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0)


def main() -> None:
    """Runs the measurements and prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", required=True)
    parser.add_argument("--hr", required=True, nargs="+", type=Path)
    args = parser.parse_args()
    generator = open_generator(args.run)
    result: dict[str, Any] = {"generator": generator.name, "sha256": generator.sha256}
    for folder in args.hr:
        name = folder.parent.name if folder.name == "HR" else folder.name
        files = sorted(folder.glob("*.png"))
        result[name] = {
            "none" if sigma is None else f"{sigma:g}": _mean(generator, files, sigma)
            for sigma in _SIGMAS
        }
    print_result(result)


def _mean(generator: TrainedGenerator, files: list[Path], sigma: float | None) -> Figures:
    values = [_values(generator, file, sigma) for file in files]
    return {name: statistics.fmean(one[name] for one in values) for name in values[0]}


def _values(generator: TrainedGenerator, file: Path, sigma: float | None) -> Figures:
    scale = generator.scale
    hr = crop_to_multiple(as_rgb(decode_image(file.read_bytes())), scale)
    lr = imresize(hr, Fraction(1, scale))
    with mock.patch.object(colour_fix, "_SIGMA", sigma):
        bands = upscale.bands(generator.model, lr, colour_fix=sigma is not None)
        sr = np.concatenate(list(bands))
    measured = score(hr, sr, border=scale)
    return {
        "psnr_y": measured.psnr_y,
        "lr_psnr": lr_psnr(sr, lr, scale, "matlab"),
        "lpips": lpips_value(hr, sr, border=scale)["lpips"],
    }


if __name__ == "__main__":
    main()
