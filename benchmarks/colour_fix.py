"""What the colour fix does to a generator's images: LR PSNR, PSNR and LPIPS for several sigmas.

python -m benchmarks.colour_fix --run RUN --hr Set5/HR Set14/HR

LR is made with MATLAB's kernel. `none` is without the fix, and sigma 0 without its Gaussian.
"""

import argparse
from fractions import Fraction
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from benchmarks.common import Figures, print_result
from data_pipeline.images import as_rgb, decode_image
from data_pipeline.imresize import imresize
from data_pipeline.pairs import lr_psnr
from data_pipeline.patches import crop_to_multiple
from srgan.colour_fix import with_lows_of
from srgan.evaluation.perceptual import lpips_value
from srgan.evaluation.psnr_ssim import score
from srgan.trained import TrainedGenerator, open_generator

_SIGMAS = (None, 0.0, 0.5, 1.0, 2.0, 4.0)


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
        images = [_values(generator, file) for file in sorted(folder.glob("*.png"))]
        result[name] = {
            sigma: {key: fmean(image[sigma][key] for image in images) for key in values}
            for sigma, values in images[0].items()
        }
    print_result(result)


def _values(generator: TrainedGenerator, file: Path) -> dict[str, Figures]:
    """The measures of an image by sigma."""
    scale = generator.scale
    hr = crop_to_multiple(as_rgb(decode_image(file.read_bytes())), scale)
    lr = imresize(hr, Fraction(1, scale))
    pixels = lr.astype(np.float32) / np.float32(255)
    made = np.asarray(generator.model.predict_on_batch(pixels[None])[0])
    found = {}
    for sigma in _SIGMAS:
        floats = made if sigma is None else with_lows_of(pixels, made, scale, sigma)
        sr = np.clip(np.floor(floats * 127.5 + 128), 0, 255).astype(np.uint8)
        found["none" if sigma is None else f"{sigma:g}"] = {
            "psnr_y": score(hr, sr, border=scale).psnr_y,
            "lr_psnr": lr_psnr(sr, lr, scale, "matlab"),
            "lpips": lpips_value(hr, sr, border=scale)["lpips"],
        }
    return found


if __name__ == "__main__":
    main()
