"""The corpus of hard files: read as stated, or refused with a reason and a fix."""

import io
import struct

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from data_pipeline.images import ImageError
from data_pipeline.pictures.formats import FORMATS, format_of_suffix
from data_pipeline.pictures.read import Picture, read_picture
from tests.data_pipeline.image_samples import DEEP, GREY, RGB, chunk, png, saved
from tests.data_pipeline.pictures import hard_files

ALPHA = np.arange(24 * 33, dtype=np.uint8).reshape(24, 33)
DEEP_ALPHA = ALPHA.astype(np.uint16) * 255 + 3
KINDS = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp", "TIFF": "tif", "BMP": "bmp"}


@pytest.fixture
def read(tmp_path):
    def reads(data: bytes, name: str = "a name [1], ä ö 図.png") -> Picture:
        path = tmp_path / name
        path.write_bytes(data)
        return read_picture(path)

    return reads


def tiff(samples: np.ndarray, **options) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, samples, **options)
    return stream.getvalue()


def palette(transparency: bytes | None = None) -> tuple[bytes, np.ndarray]:
    image = Image.fromarray(RGB).quantize(16)
    options = {} if transparency is None else {"transparency": transparency}
    shown = image.convert("RGB") if transparency is None else None
    if transparency is not None:
        image.info["transparency"] = transparency
        shown = image.convert("RGBA")
    return saved(image, "PNG", **options), np.asarray(shown)


BIT = np.asarray(Image.fromarray(GREY).convert("1"))
DEEP_GREY = DEEP[:, :, :1]

# file, the samples it holds, its alpha
READ = {
    "RGB PNG": (saved(RGB, "PNG"), RGB, None),
    "RGB WebP": (saved(RGB, "WEBP", lossless=True), RGB, None),
    "RGB TIFF": (saved(RGB, "TIFF", compression="tiff_lzw"), RGB, None),
    "RGB BMP": (saved(RGB, "BMP"), RGB, None),
    "grey PNG": (saved(GREY, "PNG"), GREY, None),
    "grey TIFF": (saved(GREY, "TIFF"), GREY, None),
    "grey BMP": (saved(GREY, "BMP"), GREY, None),
    "16-bit RGB PNG": (png(DEEP, 2), DEEP, None),
    "16-bit RGBA PNG": (png(np.dstack([DEEP, DEEP_ALPHA]), 6), DEEP, DEEP_ALPHA),
    "16-bit grey PNG": (png(DEEP_GREY, 0), DEEP_GREY, None),
    "16-bit grey and alpha PNG": (
        png(np.dstack([DEEP_GREY, DEEP_ALPHA]), 4),
        DEEP_GREY,
        DEEP_ALPHA,
    ),
    "16-bit RGB TIFF": (tiff(DEEP, photometric="rgb"), DEEP, None),
    "16-bit RGB TIFF, big-endian": (tiff(DEEP, photometric="rgb", byteorder=">"), DEEP, None),
    "16-bit BigTIFF": (tiff(DEEP, photometric="rgb", bigtiff=True), DEEP, None),
    "16-bit TIFF, colour by colour": (
        tiff(np.moveaxis(DEEP, 2, 0), photometric="rgb", planarconfig="separate"),
        DEEP,
        None,
    ),
    "tiled TIFF": (tiff(RGB, photometric="rgb", tile=(16, 16)), RGB, None),
    "TIFF where 0 is white": (tiff(255 - GREY, photometric="miniswhite"), GREY, None),
    "RGBA PNG": (saved(np.dstack([RGB, ALPHA]), "PNG"), RGB, ALPHA),
    "RGBA WebP": (
        saved(np.dstack([RGB, ALPHA]), "WEBP", lossless=True, exact=True),
        RGB,
        ALPHA,
    ),
    "RGBA TIFF": (
        tiff(np.dstack([RGB, ALPHA]), photometric="rgb", extrasamples=["unassalpha"]),
        RGB,
        ALPHA,
    ),
    "opaque RGBA PNG": (
        saved(np.dstack([RGB, np.full_like(ALPHA, 255)]), "PNG"),
        RGB,
        np.full_like(ALPHA, 255),
    ),
    "grey and alpha PNG": (
        saved(Image.merge("LA", (Image.fromarray(GREY), Image.fromarray(ALPHA))), "PNG"),
        GREY,
        ALPHA,
    ),
    "interlaced PNG": (png(RGB, 2, interlaced=True), RGB, None),
    "palette PNG": (palette()[0], palette()[1], None),
    "palette PNG with transparent colours": (
        palette(bytes(range(0, 160, 10)))[0],
        palette(bytes(range(0, 160, 10)))[1][:, :, :3],
        palette(bytes(range(0, 160, 10)))[1][:, :, 3],
    ),
    "palette TIFF": (saved(Image.fromarray(RGB).quantize(16), "TIFF"), palette()[1], None),
    "1-bit PNG": (saved(Image.fromarray(BIT), "PNG"), BIT * np.uint8(255), None),
    "1-bit TIFF": (saved(Image.fromarray(BIT), "TIFF"), BIT * np.uint8(255), None),
    "4-bit grey PNG": (png(GREY // 16, 0, depth=4), GREY // 16 * np.uint8(17), None),
    "PNG with a transparent colour": (
        png(RGB, 2, before=chunk(b"tRNS", struct.pack(">3H", *RGB[3, 4].tolist()))),
        RGB,
        np.where((RGB[3, 4] == RGB).all(axis=2), 0, 255).astype(np.uint8),
    ),
    "1x1": (saved(RGB[:1, :1], "PNG"), RGB[:1, :1], None),
}


@pytest.mark.parametrize("kind", READ)
def test_samples_are_those_of_the_file(read, kind):
    data, samples, alpha = READ[kind]
    picture = read(data)
    np.testing.assert_array_equal(picture.samples, np.atleast_3d(samples))
    assert picture.samples.dtype == samples.dtype
    if alpha is None:
        assert picture.alpha is None
    else:
        np.testing.assert_array_equal(picture.alpha, alpha)
        assert picture.alpha.dtype == samples.dtype
    assert picture.notes == ()


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 2}])
@pytest.mark.parametrize("pixels", [RGB, GREY])
def test_jpeg(read, pixels, options):
    data = saved(pixels, "JPEG", quality=90, **options)
    with Image.open(io.BytesIO(data)) as image:
        expected = np.atleast_3d(np.asarray(image)).astype(int)
    found = read(data).samples
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 3  # two decoders


def test_colours_multiplied_by_alpha_are_divided(read):
    alpha = np.full_like(ALPHA, 128)
    multiplied = np.rint(RGB * (128 / 255)).astype(np.uint8)
    data = tiff(np.dstack([multiplied, alpha]), photometric="rgb", extrasamples=["assocalpha"])
    picture = read(data)
    assert np.abs(picture.samples.astype(int) - RGB).max() <= 2
    assert (picture.alpha == 128).all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_content_says_what_a_file_is(read, kind):
    assert read(saved(RGB, kind), "a.png").format is FORMATS[KINDS[kind]]
    assert read(saved(RGB, kind), "without").format is FORMATS[KINDS[kind]]


def test_formats_by_suffix(tmp_path):
    for suffix, name in ((".JPEG", "jpg"), (".jfif", "jpg"), (".TIFF", "tif"), (".Png", "png")):
        assert format_of_suffix(tmp_path / f"a.b{suffix}") is FORMATS[name]
    assert format_of_suffix(tmp_path / "png") is None


def colours(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return samples[8, 4].astype(int), samples[8, 28].astype(int)


@pytest.mark.parametrize(
    "data",
    [
        hard_files.cmyk("JPEG"),
        hard_files.cmyk("JPEG", adobe=False),
        hard_files.cmyk("TIFF"),
    ],
)
def test_cmyk_becomes_srgb(read, data):
    picture = read(data)
    red, blue = colours(picture.samples)
    assert red[0] > 180
    assert red[1:].max() < 90
    assert blue[2] > 100 > blue[1]
    assert picture.notes == ("is CMYK: converted to sRGB",)
    assert picture.metadata.profile[16:20] == b"RGB "


def test_16_bit_cmyk_keeps_its_bits(read):
    with Image.open(io.BytesIO(hard_files.cmyk("TIFF"))) as image:
        inks = np.asarray(image).astype(np.uint16) * 257
    deep = read(tiff(inks, photometric="separated")).samples
    assert deep.dtype == np.uint16
    assert np.abs(deep / 257 - read(hard_files.cmyk("TIFF")).samples).max() < 2


def test_an_mpo_gives_its_first_picture(read):
    data = saved(RGB, "MPO", save_all=True, append_images=[Image.fromarray(255 - RGB)])
    picture = read(data)
    assert np.abs(picture.samples.astype(int) - RGB).mean() < 12
    assert len(picture.notes) == 1
    assert "the first is used" in picture.notes[0]


SVG = b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"></svg>'
REFUSED = {
    "empty": (b"", "empty; copy it again"),
    "zeros": (bytes(10_000), "filled with zeros; copy it again"),
    "text": (b"no picture at all" * 9, "not a PNG, JPEG, BMP, WebP or TIFF file"),
    "SVG": (SVG, "SVG drawing; convert it to PNG"),
    "GIF": (saved(RGB, "GIF"), "a GIF file; convert it to PNG"),
    "RIFF": (b"RIFF\x24\0\0\0WAVEfmt ", "not a PNG, JPEG"),
    "only a magic number": (b"\x89PNG\r\n\x1a\n", "copy it again"),
    "only a TIFF's magic number": (b"II*\0", "copy it again"),
    "only a JPEG's magic number": (b"\xff\xd8\xff", "copy it again"),
    "animated PNG": (hard_files.animated("PNG"), "is an animation"),
    "animated PNG with long text": (hard_files.apng_with_long_text(), "is an animation"),
    "animated WebP": (hard_files.animated("WEBP"), "holds 2 pages or frames; save one"),
    "TIFF of pages": (hard_files.animated("TIFF"), "holds 2 pages or frames; save one"),
    "float TIFF": (tiff(RGB.astype(np.float32)), "has 32-bit float samples; convert it"),
    "32-bit TIFF": (tiff(GREY.astype(np.uint32)), "save it with 16 bits"),
    "CIELAB TIFF": (saved(Image.fromarray(RGB).convert("LAB"), "TIFF"), "CIELAB; convert it"),
    "five channels": (
        tiff(np.dstack([RGB, RGB[:, :, :2]]), photometric="rgb", planarconfig="contig"),
        "has 5 channels; save it as RGB",
    ),
    "transparent BMP": (
        cv2.imencode(".bmp", np.dstack([RGB, ALPHA]))[1].tobytes(),
        "partly transparent",
    ),
    "too large": (
        png(GREY, 0).replace(
            chunk(b"IHDR", struct.pack(">II5B", 33, 24, 8, 0, 0, 0, 0)),
            chunk(b"IHDR", struct.pack(">II5B", 2**15, 2**14, 8, 0, 0, 0, 0)),
        ),
        "is too large: 32768x16384",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_refused_says_why_and_the_fix(read, kind):
    data, words = REFUSED[kind]
    with pytest.raises(ImageError) as caught:
        read(data)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


WHOLE = {
    "PNG": saved(RGB, "PNG"),
    "PNG of 16 bits": png(DEEP, 2),
    "JPEG": saved(RGB, "JPEG", quality=95),
    "progressive JPEG": saved(RGB, "JPEG", quality=95, progressive=True),
    "WebP": saved(RGB, "WEBP"),
    "lossless WebP": saved(RGB, "WEBP", lossless=True),
    "TIFF": saved(RGB, "TIFF"),
    "TIFF with LZW": saved(RGB, "TIFF", compression="tiff_lzw"),
    "TIFF with deflate": tiff(DEEP, photometric="rgb", compression="zlib"),
    "BMP": saved(RGB, "BMP"),
}


@pytest.mark.parametrize("kind", WHOLE)
@pytest.mark.parametrize("share", [0.05, 0.5, 0.9, 0.99])
def test_truncated_files_are_refused(read, kind, share):
    data = WHOLE[kind]
    read(data)
    with pytest.raises(ImageError, match=r"copy it again|save it as PNG|damaged"):
        read(data[: max(20, int(len(data) * share))])


def test_a_flipped_byte_of_a_png_is_seen(read):
    data = bytearray(WHOLE["PNG"])
    data[len(data) // 2] ^= 0xFF
    with pytest.raises(ImageError, match=r"does not decode: .*; copy it again"):
        read(bytes(data))


def test_a_file_that_was_written_anew_is_read_anew(read):
    assert (read(saved(RGB, "PNG")).samples == RGB).all()
    assert (read(saved(255 - RGB, "PNG")).samples == 255 - RGB).all()


def test_a_missing_file_is_an_error_of_the_system(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_picture(tmp_path / "none.png")
