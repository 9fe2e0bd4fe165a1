"""An export against Keras: reopened from its files by another process, on real pictures."""

import subprocess
import sys
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_pipeline.images import Image, as_rgb, decode_image
from data_pipeline.imresize import imresize
from data_pipeline.patches import crop_to_multiple
from data_pipeline.platform.errors import JobFailedError
from data_pipeline.prepare.sources import SAMPLES, open_source
from srgan.export.formats import Format

_SIDE = 128  # LR pixels: a picture takes the largest generator about a second
_ODD_SIZES = ((1, 1), (7, 5), (4001, 3))

_ROOT = Path(__file__).parents[2]

# It loads the export as the model card says. A package that is None cannot be imported.
_PROGRAM = """
import sys
{path}
{imports}
pictures = np.load(sys.argv[1])
{load}
results = {{}}
for name, lr in pictures.items():
    {run}
    results[name] = sr
np.savez(sys.argv[2], **results)
"""
_WITHOUT_US = 'sys.modules.update(dict.fromkeys(("srgan", "data_pipeline", "jobs")))'
_WITH_US = f"sys.path.insert(0, {str(_ROOT)!r})"


class Difference(NamedTuple):
    """How far an export is from Keras.

    Attributes:
        levels: The largest difference, in levels of 256.
        where: The picture, row, column and channel of one that is so large; "" for none.
        share: The share of values that differ.
        values: How many were compared.
        pictures: Of how many pictures.
    """

    levels: int
    where: str
    share: float
    values: int
    pictures: int

    def __str__(self) -> str:
        """The difference for people."""
        values = f"{self.values:,} values of {self.pictures} pictures"
        if self.levels == 0:
            return f"equal on all {values}"
        levels = f"{self.levels} level{'s' if self.levels > 1 else ''}"
        return f"at most {levels} apart, on {self.share:.4%} of {values}"


def check_pictures(scale: int) -> dict[str, Image]:
    """LR of the photographs that ship with scikit-image, uint8 [h, w, 3], and some odd sizes."""
    pictures = {}
    for split in ("train", "valid"):
        source = open_source(SAMPLES, split, scale=scale)
        for one in source.images:
            photo = as_rgb(decode_image(source.storage.read(one.hr.key)))
            top, left = (max(0, (side - scale * _SIDE) // 2) for side in photo.shape[:2])
            crop = photo[top : top + scale * _SIDE, left : left + scale * _SIDE]
            pictures[one.name] = imresize(crop_to_multiple(crop, scale), Fraction(1, scale))
    name, last = next(reversed(pictures.items()))
    odd = {f"{name} {h}x{w}": np.resize(last, (h, w, 3)) for h, w in _ODD_SIZES}
    return pictures | odd


def compare(
    upscale: Callable[[Image], Image],
    folder: Path,
    form: Format,
    pictures: Mapping[str, Image],
    scratch: Path,
) -> Difference:
    """Compares an export with a function that does the same.

    Args:
        upscale: Maps uint8 [h, w, 3] to uint8 [H, W, 3].
        folder: Where the export's files are.
        form: Its format.
        pictures: uint8 [h, w, 3] by name.
        scratch: An empty folder for the other process's input and output.

    Raises:
        JobFailedError: If the export does not load or run, or gives images of another shape.
    """
    found = _run(folder, form, pictures, scratch)
    worst, where, different, values = 0, "", 0, 0
    for name, lr in pictures.items():
        expected, sr = upscale(lr), found[name]
        if (sr.shape, sr.dtype) != (expected.shape, expected.dtype):
            raise JobFailedError(
                f"{form.title}: gives {sr.dtype} {list(sr.shape)} for {name}, and Keras "
                f"{expected.dtype} {list(expected.shape)}: nothing is written"
            )
        apart = np.abs(sr.astype(np.int16) - expected)
        different, values = different + np.count_nonzero(apart), values + apart.size
        if apart.max() > worst:
            worst = int(apart.max())
            where = (
                f"{name} at {[int(one) for one in np.unravel_index(apart.argmax(), apart.shape)]}"
            )
    return Difference(worst, where, different / values, values, len(pictures))


def _run(
    folder: Path, form: Format, pictures: Mapping[str, Image], scratch: Path
) -> Mapping[str, Image]:
    """The export's results by the pictures' names."""
    given, made = scratch / "pictures.npz", scratch / "results.npz"
    np.savez(given, allow_pickle=False, **pictures)
    path = _WITHOUT_US if form.loads_without_us else _WITH_US
    program = _PROGRAM.format(path=path, **form.snippet._asdict())
    # -I: neither PYTHONPATH nor the folder that it runs in is on its path.
    command = [sys.executable, "-I", "-c", program, str(given), str(made)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        if done.returncode < 0:  # its last line is then of anything
            reason = f"ended by signal {-done.returncode}; 9 often means: no memory left"
        else:
            reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise JobFailedError(
            f"{form.title}: what was written does not run ({reason}): nothing is written"
        )
    with np.load(made) as results:
        return dict(results)
