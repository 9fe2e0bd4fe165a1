"""Thousands of damaged files: each is refused by name, or read as another library reads it.

The files are decoded in a process of their own, so that a crash or a hang of a C library is seen.
"""

import faulthandler
import io
import json
import os
import random
import resource
import subprocess
import sys
import warnings
import zlib
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from data_pipeline.images import ImageError, decode_image
from tests.data_pipeline.image_samples import (
    BMPS,
    DEEP,
    GREY,
    OPAQUE,
    PALETTE,
    PALETTE_BMPS,
    RGB,
    chunk,
    png,
    saved,
    tiff,
    turned,
)

FILES = 5000
HANG = 60  # seconds for one file of a kilobyte
MEMORY = 8 * 2**30  # bytes of address space; a header may claim as much as the limit allows

SEEDS = {
    "png": saved(RGB, "PNG", exif=turned(6)),
    "png palette": saved(PALETTE, "PNG", transparency=b"\xff" * 40),
    "png grey": saved(GREY, "PNG", transparency=254),
    "png alpha": saved(np.dstack([RGB, OPAQUE]), "PNG"),
    "png interlaced": png(GREY, 0, interlaced=True),
    "png 4 bits": png(GREY >> 4, 0, depth=4),
    "png 16 bits": png(DEEP, 2),
    "png 16-bit grey": png(DEEP[:, :, 0], 0),
    "jpeg": saved(RGB, "JPEG", quality=95, subsampling="4:4:4", exif=turned(3)),
    "jpeg 4:2:0": saved(RGB, "JPEG", subsampling="4:2:0", restart_marker_blocks=2),
    "jpeg progressive": saved(RGB, "JPEG", progressive=True),
    "jpeg grey": saved(GREY, "JPEG"),
    **{f"bmp {name}": data for name, data in (BMPS | PALETTE_BMPS).items()},
    "bmp grey": saved(GREY, "BMP"),
    "webp": saved(RGB, "WEBP", exif=turned(5)),
    "webp lossless": saved(np.dstack([RGB, OPAQUE]), "WEBP", lossless=True),
    "tiff": saved(RGB, "TIFF", exif=turned(8)),
    "tiff LZW": saved(RGB, "TIFF", compression="tiff_lzw"),
    "tiff Deflate": saved(GREY, "TIFF", compression="tiff_adobe_deflate"),
    "tiff PackBits": saved(PALETTE, "TIFF", compression="packbits"),
    "tiff fax": saved(Image.fromarray(GREY > 100), "TIFF", compression="group4"),
    "tiff 16 bits": tiff(DEEP),
    "tiff 16-bit grey": tiff(DEEP[:, :, 0], order=">"),
}


def damaged(data: bytes, rng: random.Random) -> bytes:
    """One to three kinds of damage."""
    file = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        at = rng.randrange(len(file))
        size = rng.randrange(1, max(2, len(file) // 4))
        kind = rng.randrange(6)
        if kind == 0:
            file[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            file[at] = rng.choice((0, 1, 2, 127, 128, 255))
        elif kind == 2:  # a field of the header
            at = rng.randrange(min(len(file), 120))
            file[at : at + 4] = rng.choice((b"\0\0\0\0", b"\xff" * 4, b"\0\0\1\0"))
            file[at] = rng.randrange(256)
        elif kind == 3:
            del file[at:]
        elif kind == 4:
            file[at : at + size] = bytes(len(file[at : at + size]))
        else:
            file[at:at] = file[at : at + size]
        file = file or bytearray(b"\0")
    return bytes(file)


def mutated(data: bytes, rng: random.Random) -> bytes:
    """A damaged file. PNG has checksums: two of three get right ones again, to come further."""
    way = rng.randrange(3) if data.startswith(b"\x89PNG") else 0
    if way == 0:
        return damaged(data, rng)
    if way == 1:  # the pixels below the compression
        start = data.index(b"IDAT") - 4
        end = start + 12 + int.from_bytes(data[start : start + 4], "big")
        rows = damaged(zlib.decompress(data[start + 8 : end - 4]), rng)
        return data[:start] + chunk(b"IDAT", zlib.compress(rows)) + data[end:]
    file = bytearray(damaged(data, rng))
    start = 8
    while start + 12 <= len(file):
        end = start + 8 + int.from_bytes(file[start : start + 4], "big")
        file[end : end + 4] = zlib.crc32(file[start + 4 : end]).to_bytes(4, "big")
        start = end + 4
    return bytes(file)


def pillow(data: bytes) -> np.ndarray:
    """The pixels as Pillow reads them; of 16-bit samples, of several channels, the high bytes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = Image.open(io.BytesIO(data), formats=["PNG", "JPEG", "BMP", "WEBP", "TIFF"])
        image.load()
        image.info.pop("transparency", None)
        try:
            upright = ImageOps.exif_transpose(image)
        except Exception:  # a damaged EXIF block says nothing
            upright = image
        if image.mode.startswith("I;16"):
            samples = np.asarray(upright).astype(np.uint32)
            return ((samples + 128) // 257).astype(np.uint8)
        if image.mode == "P" and image.format == "BMP":
            colours = np.array(image.getpalette()).reshape(-1, 3)
            grey = (colours == colours[:, :1]).all()
        else:
            grey = image.mode in ("1", "L", "LA", "La")
        return np.asarray(upright.convert("L" if grey else "RGB"))


@contextmanager
def silent():
    """What OpenCV's libraries print while they are asked for comparison does not count."""
    kept = os.dup(2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)


def check(data: bytes, *, deep: bool) -> bool:
    """Whether the file is read. Fails where it is read wrongly."""
    try:
        decoded = decode_image(data)
    except ImageError:
        return False
    ours = decoded.squeeze(2) if decoded.shape[2] == 1 else decoded
    theirs = pillow(data)
    assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
    if not deep or ours.ndim == 2:
        np.testing.assert_array_equal(ours, theirs)
        return True
    # A 16-bit sample rounds to its high byte h, or to h - 1 or h + 1 by its low byte.
    assert np.abs(ours.astype(int) - theirs).max() <= 1
    with silent():
        read = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if read is not None and read.dtype == np.uint16 and read.shape == ours.shape:
        np.testing.assert_array_equal(ours, np.rint(read[:, :, ::-1] / 257).astype(np.uint8))
    return True


def main() -> None:
    """Prints as JSON how many files of each kind were read."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    read = Counter()
    for number in range(FILES):
        name = list(SEEDS)[number % len(SEEDS)]
        data = mutated(SEEDS[name], random.Random(number))
        faulthandler.dump_traceback_later(HANG, exit=True)
        try:
            read[name] += check(data, deep="16" in name)
        except BaseException:
            print(f"file {number}, {name}: {data.hex()}", file=sys.stderr)
            raise
    faulthandler.cancel_dump_traceback_later()
    print(json.dumps(read))


@pytest.mark.parametrize("name", SEEDS)
def test_the_whole_file_is_read(name):
    assert check(SEEDS[name], deep="16" in name)


@pytest.mark.slow
def test_damaged_files_are_refused_or_read_right():
    command = [sys.executable, "-X", "faulthandler", "-m", "tests.data_pipeline.test_images_fuzz"]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr[-3000:]
    read = json.loads(done.stdout)
    for kind in ("png", "jpeg", "bmp", "webp", "tiff"):
        files = FILES * sum(name.startswith(kind) for name in SEEDS) / len(SEEDS)
        assert files / 20 < sum(read[name] for name in SEEDS if name.startswith(kind)) < files


if __name__ == "__main__":
    main()
