"""The writer's files, read back by libraries that did not write them."""

import errno
import subprocess
import sys
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from data_pipeline.images import ImageError
from data_pipeline.imresize import imresize
from data_pipeline.pictures.formats import FORMATS, refusal
from data_pipeline.pictures.metadata import Metadata
from data_pipeline.pictures.write import PictureWriter

SIZES = ((1, 1), (1, 13), (11, 1), (67, 53))
KINDS = [
    (name, bits, channels, alpha)
    for name, format in FORMATS.items()
    for bits in format.bits
    for channels in (1, 3)
    for alpha in ((False, True) if format.alpha else (False,))
]


def smooth(height: int, width: int, channels: int, bits: int) -> np.ndarray:
    """A picture that JPEG and WebP keep nearly: waves, other ones in each channel."""
    y, x, c = np.mgrid[:height, :width, :channels]
    waves = 0.5 + 0.45 * np.sin(x / 23 + c) * np.cos(y / 31 + c / 2)
    return np.rint(waves * (2**bits - 1)).astype(f"u{bits // 8}")


def noise(height: int, width: int, channels: int, bits: int) -> np.ndarray:
    shape = (height, width, channels)
    return np.random.default_rng(1).integers(0, 2**bits, shape).astype(f"u{bits // 8}")


def writer(path: Path, pixels: np.ndarray, name: str, *, alpha: bool = False, **options):
    height, width, channels = pixels.shape
    options = {
        "height": height,
        "width": width,
        "channels": channels - alpha,
        "bits": 8 * pixels.itemsize,
        "metadata": Metadata(),
        **options,
    }
    return PictureWriter(path, alpha=alpha, format=FORMATS[name], **options)


def write(path: Path, pixels: np.ndarray, name: str, rows: int = 23, **options) -> None:
    with writer(path, pixels, name, **options) as picture:
        for top in range(0, len(pixels), rows):
            picture.write(pixels[top : top + rows])


def read_by_others(path: Path, name: str) -> np.ndarray:
    if name == "tif":
        return np.atleast_3d(tifffile.imread(path))
    if name == "png":  # Pillow knows no 16-bit colours
        read = np.atleast_3d(cv2.imread(str(path), cv2.IMREAD_UNCHANGED))
        return read[:, :, [2, 1, 0, 3][: read.shape[2]]] if read.shape[2] > 1 else read
    with Image.open(path) as image:
        return np.atleast_3d(np.asarray(image))


def with_grey_as_rgb(pixels: np.ndarray) -> np.ndarray:
    grey = np.repeat(pixels[:, :, :1], 3, axis=2)
    return np.concatenate([grey, pixels[:, :, 1:]], axis=2)


@pytest.mark.parametrize(("name", "bits", "channels", "alpha"), KINDS)
def test_others_read_what_was_written(tmp_path, name, bits, channels, alpha):
    lossy = FORMATS[name].quality is not None
    for height, width in SIZES:
        pixels = (smooth if lossy else noise)(height, width, channels + alpha, bits)
        path = tmp_path / f"{height} ä 図[1].part"
        write(path, pixels, name, alpha=alpha, quality=100 if lossy else None)
        found = read_by_others(path, name)
        if channels == 1 and (name == "webp" or (name == "png" and alpha)):
            pixels = with_grey_as_rgb(pixels)  # WebP has no grey; OpenCV none with alpha
        assert found.dtype == pixels.dtype
        assert found.shape == pixels.shape
        difference = np.abs(found.astype(int) - pixels)
        assert difference.max() <= (7 if lossy else 0), (height, width)


def test_grey_stays_grey(tmp_path):
    for name, mode in (("png", "LA"), ("tif", "LA"), ("jpg", "L"), ("bmp", "L")):
        alpha = mode == "LA"
        write(tmp_path / "a", noise(9, 7, 1 + alpha, 8), name, alpha=alpha)
        assert Image.open(tmp_path / "a").mode == mode


def test_quality_counts(tmp_path):
    for name in ("jpg", "webp"):
        sizes = []
        for quality in (40, None, 100):
            write(tmp_path / "a", noise(64, 64, 3, 8), name, quality=quality)
            sizes.append((tmp_path / "a").stat().st_size)
        assert sizes == sorted(set(sizes))
    write(tmp_path / "a.jpg", noise(64, 64, 3, 8), "jpg")
    assert Image.open(tmp_path / "a.jpg").layer[1][1:3] == (1, 1)  # chroma is not subsampled


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("final", [(33, 26), (67, 40), (50, 53), (1, 1)])
def test_the_final_size_is_exact(tmp_path, name, final):
    write(tmp_path / "a", smooth(67, 53, 3, 8), name, final_size=final)
    assert read_by_others(tmp_path / "a", name).shape == (*final, 3)


def test_the_final_size_is_bicubic_and_antialiased(tmp_path):
    pixels = np.kron(noise(40, 60, 4, 8), np.ones((4, 4, 1), np.uint8))
    write(tmp_path / "a", pixels, "png", alpha=True, final_size=(80, 120))
    found = read_by_others(tmp_path / "a", "png").astype(int)
    inside = np.s_[4:-4, 4:-4]  # the edges are extended in another way
    assert np.abs(found - imresize(pixels, 0.5))[inside].max() <= 2


def test_a_larger_final_size_is_refused(tmp_path):
    with pytest.raises(ValueError, match="53x68 is larger than 53x67"):
        writer(tmp_path / "a", smooth(67, 53, 3, 8), "png", final_size=(68, 53))


def alive() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "picture writer"]


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("after", [0, 1, 3])
def test_an_error_in_the_block_leaves_no_file(tmp_path, name, after):
    pixels = noise(60, 40, 3, 8)

    def fail():
        with writer(tmp_path / "a", pixels, name) as picture:
            for top in range(0, 20 * after, 20):
                picture.write(pixels[top : top + 20])
            raise KeyError("network")

    with pytest.raises(KeyError, match="network"):
        fail()
    assert not (tmp_path / "a").exists()
    assert not alive()


@pytest.mark.parametrize("name", FORMATS)
def test_missing_and_surplus_rows_leave_no_file(tmp_path, name):
    pixels = noise(60, 40, 3, 8)
    with pytest.raises(ValueError, match="only 59 of 60 rows"):
        write(tmp_path / "a", pixels[:59], name, height=60)
    with pytest.raises(ValueError, match="more rows than 50"):
        write(tmp_path / "a", pixels, name, height=50)
    with pytest.raises(ValueError, match="only 0 of 60 rows"):
        write(tmp_path / "a", pixels[:0], name, height=60)
    assert not (tmp_path / "a").exists()
    assert not alive()


@pytest.mark.parametrize(
    "band", [noise(9, 39, 3, 8), noise(9, 40, 1, 8), noise(9, 40, 3, 16), noise(9, 40, 3, 8)[0]]
)
def test_a_band_of_another_kind_is_refused(tmp_path, band):
    with (
        pytest.raises(ValueError, match="expected uint8"),
        writer(tmp_path / "a", noise(60, 40, 3, 8), "png") as picture,
    ):
        picture.write(band)
    assert not alive()


@pytest.mark.parametrize("name", FORMATS)
def test_a_path_that_cannot_be_written_is_an_error_of_the_caller(tmp_path, name):
    with pytest.raises(OSError, match="No such file") as caught:
        write(tmp_path / "no/a", noise(60, 40, 3, 8), name)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOENT, str(tmp_path / "no/a"))
    assert not alive()


FULL_DISK = """
import resource, sys
import numpy as np
from pathlib import Path
from data_pipeline.pictures.formats import FORMATS
from data_pipeline.pictures.metadata import Metadata
from data_pipeline.pictures.write import PictureWriter

resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))
pixels = np.random.default_rng(0).integers(0, 256, (400, 300, 3)).astype(np.uint8)
for name in FORMATS:
    path = Path(sys.argv[1]) / name
    try:
        with PictureWriter(path, height=400, width=300, channels=3, alpha=False, bits=8,
                           metadata=Metadata(), format=FORMATS[name]) as picture:
            for top in range(0, 400, 50):
                picture.write(pixels[top : top + 50])
    except OSError as error:
        print(name, path.exists(), error.errno, error.filename == str(path))
"""


def test_a_full_disk_is_an_error_of_the_caller(tmp_path):
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines() == [f"{name} False {errno.EFBIG} True" for name in FORMATS], (
        done.stderr
    )


@pytest.mark.parametrize(
    ("name", "picture", "words"),
    [
        ("webp", {"height": 16384}, "1x16384: WebP ends at 16383 px a side; choose PNG or"),
        ("jpg", {"width": 65501}, "65501x1: JPEG ends at 65500 px a side; choose PNG or"),
        ("bmp", {"height": 40_000, "width": 40_000}, "BMP ends at 4 GB"),
        ("png", {"width": 1_000_001}, "PNG ends at 1000000 px a side; choose a smaller size"),
        ("jpg", {"alpha": True}, "has transparency, JPEG has none; choose PNG"),
        ("bmp", {"alpha": True}, "has transparency, BMP has none; choose PNG"),
        ("jpg", {"bits": 16}, "has 16 bits, JPEG has 8; choose PNG"),
        ("webp", {"bits": 16}, "has 16 bits, WebP has 8; choose PNG"),
    ],
)
def test_what_a_format_cannot_hold_is_refused_before_work(tmp_path, name, picture, words):
    picture = {"height": 1, "width": 1, "bits": 8, "alpha": False, **picture}
    assert words in str(refusal(FORMATS[name], **picture))
    with pytest.raises(ImageError, match=words):
        PictureWriter(
            tmp_path / "a", channels=3, metadata=Metadata(), format=FORMATS[name], **picture
        )


@pytest.mark.parametrize("name", FORMATS)
def test_what_a_format_can_hold_is_not_refused(name):
    format = FORMATS[name]
    side = min(format.max_side, 16_000)
    for bits in format.bits:
        assert refusal(format, height=side, width=side, bits=bits, alpha=format.alpha) is None


@pytest.mark.parametrize("name", FORMATS)
def test_the_longest_side_can_be_written(tmp_path, name):
    pixels = np.full((1, FORMATS[name].max_side, 1), 7, np.uint8)
    write(tmp_path / "a", pixels, name)
    assert (tmp_path / "a").stat().st_size > 100
    if name in ("jpg", "webp"):  # others are this long only in one direction
        write(tmp_path / "a", pixels.reshape(-1, 1, 1), name, rows=len(pixels[0]))
        assert Image.open(tmp_path / "a").size == (1, pixels.size)
