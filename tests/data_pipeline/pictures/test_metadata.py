"""Metadata of files: read, made true of upright pixels, written, and read by Pillow."""

import io
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from data_pipeline.pictures.formats import FORMATS
from data_pipeline.pictures.metadata import Metadata, upright_exif, upright_xmp
from data_pipeline.pictures.read import Picture, read_picture
from data_pipeline.pictures.tiff_exif import exif_of_tiff
from data_pipeline.pictures.write import PictureWriter
from tests.data_pipeline.image_samples import GREY, RGB, png, saved
from tests.data_pipeline.pictures.hard_files import (
    IPTC,
    MAKER_NOTE,
    SRGB,
    XMP,
    cmyk,
    exif_block,
    small_jpeg,
    wide_gamut,
)

WITH_EXIF = {"PNG": {}, "JPEG": {"quality": 95}, "WEBP": {"lossless": True}}
NAMES = ("png", "jpg", "webp", "tif")
THUMBNAIL = small_jpeg()


def read(tmp_path: Path, data: bytes) -> Picture:
    (tmp_path / "in").write_bytes(data)
    return read_picture(tmp_path / "in")


def rewritten(tmp_path: Path, picture: Picture, name: str) -> tuple[Image.Image, tuple[str, ...]]:
    """A picture twice as wide and high, written and opened by Pillow; the writer's notes."""
    pixels = picture.samples.repeat(2, axis=0).repeat(2, axis=1)
    height, width, channels = pixels.shape
    with PictureWriter(
        tmp_path / "out",
        height=height,
        width=width,
        channels=channels,
        alpha=False,
        bits=8 * pixels.itemsize,
        metadata=picture.metadata,
        format=FORMATS[name],
    ) as writer:
        writer.write(pixels)
    return Image.open(tmp_path / "out"), writer.notes


@pytest.mark.parametrize("kind", [*WITH_EXIF, "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pixels_are_turned_upright(tmp_path, kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(RGB, kind, exif=exif, **WITH_EXIF.get(kind, {}))
    with Image.open(io.BytesIO(data)) as image:
        upright = np.asarray(ImageOps.exif_transpose(image))
    picture = read(tmp_path, data)
    assert picture.samples.shape == upright.shape
    assert np.abs(picture.samples.astype(int) - upright).max() <= (3 if kind == "JPEG" else 0)
    image, _ = rewritten(tmp_path, picture, "png")
    assert image.getexif().get(0x0112, 1) == 1
    assert image.size == (2 * upright.shape[1], 2 * upright.shape[0])


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", WITH_EXIF)
def test_exif_is_kept_and_true(tmp_path, kind, name, order):
    block = exif_block(6, thumbnail=THUMBNAIL, order=order)
    picture = read(tmp_path, saved(RGB, kind, exif=block, **WITH_EXIF[kind]))
    assert picture.notes == ()
    image, notes = rewritten(tmp_path, picture, name)
    assert notes == ()
    exif = image.getexif()
    inner, gps = exif.get_ifd(0x8769), exif.get_ifd(0x8825)
    assert exif[0x010F] == "Maker"
    assert exif.get(0x0112, 1) == 1
    assert not exif.get_ifd(1)
    assert THUMBNAIL not in (tmp_path / "out").read_bytes()
    assert inner[0x829A] == 1 / 250
    assert inner[0x9204] == pytest.approx(1 / 3)
    assert inner[0x9003] == "2020:01:01 00:00:00"
    assert inner[0x927C] == MAKER_NOTE
    assert (inner[0xA002], inner[0xA003]) == image.size == (48, 66)
    assert [float(value) for value in gps[2]] == [52.0, 30.0, 1.5]
    assert gps[1] == "N"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("large", [False, True])
def test_exif_of_a_tiff_is_kept(tmp_path, name, large):
    exif = Image.Exif()
    exif.load(exif_block(1))
    picture = read(tmp_path, saved(RGB, "TIFF", exif=exif, big_tiff=large))
    image, notes = rewritten(tmp_path, picture, name)
    assert notes == ()
    found = image.getexif()
    assert found[0x010F] == "Maker"
    assert found.get_ifd(0x8769)[0x9003] == "2020:01:01 00:00:00"
    assert found.get_ifd(0x8825)[1] == "N"


def test_exif_goes_into_large_tiffs(tmp_path, monkeypatch):
    monkeypatch.setattr("data_pipeline.pictures.encode._CLASSIC_TIFF_BYTES", 0)
    picture = read(tmp_path, saved(RGB, "JPEG", exif=exif_block(1)))
    image, notes = rewritten(tmp_path, picture, "tif")
    assert (tmp_path / "out").read_bytes()[:4] == b"II+\0"
    assert notes == ()
    assert image.getexif().get_ifd(0x8769)[0x829A] == 1 / 250
    assert image.getexif().get_ifd(0x8825)[1] == "N"
    np.testing.assert_array_equal(np.asarray(image)[::2, ::2], picture.samples)


def test_exif_is_read_in_both_byte_orders():
    """An EXIF block is a small TIFF file."""
    little, big = (
        exif_of_tiff(io.BytesIO(exif_block(order=order).removeprefix(b"Exif\0\0")))
        for order in ("<", ">")
    )
    assert little == big
    assert MAKER_NOTE in little


@pytest.mark.parametrize("tag", [0x8769, 0x8825, 0x010F])
def test_damage_within_exif_loses_only_that(tmp_path, tag):
    block = exif_block()
    at = block.index(tag.to_bytes(2, "little")) + 8
    damaged = block[:at] + b"\xff\xff\xff\x0f" + block[at + 4 :]
    picture = read(tmp_path, saved(RGB, "PNG"))
    picture = picture._replace(metadata=Metadata(exif=upright_exif(damaged)))
    for name in NAMES:
        image, _ = rewritten(tmp_path, picture, name)
        kept = {
            0x8769: 0x9003 in image.getexif().get_ifd(0x8769),
            0x8825: 1 in image.getexif().get_ifd(0x8825),
        }
        kept.pop(tag, None)
        assert all(kept.values()), name


def test_a_tiff_with_exif_is_whole_for_others(tmp_path):
    picture = read(tmp_path, saved(RGB, "JPEG", exif=exif_block(1), icc_profile=SRGB, xmp=XMP))
    rewritten(tmp_path, picture, "tif")
    with tifffile.TiffFile(tmp_path / "out") as file:
        assert len(file.pages) == 1
        np.testing.assert_array_equal(
            file.asarray(), picture.samples.repeat(2, axis=0).repeat(2, axis=1)
        )
        tags = file.pages[0].tags
        assert tags["Make"].value == "Maker"
        assert tags["ExifTag"].value["ExposureTime"] == (1, 250)
        assert tags["InterColorProfile"].value == SRGB
    again = read_picture(tmp_path / "out")
    assert again.notes == ()
    assert again.metadata.profile == SRGB


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_profile_xmp_and_resolution_are_kept(tmp_path, kind, name):
    profile = wide_gamut()
    options = {"icc_profile": profile, "dpi": (300, 200)}
    if kind == "TIFF":
        options["tiffinfo"] = {700: XMP}
    elif kind != "PNG":
        options["xmp"] = XMP
    picture = read(tmp_path, saved(RGB, kind, **options))
    assert picture.notes == ()
    assert picture.metadata.profile == profile
    image, notes = rewritten(tmp_path, picture, name)
    assert notes == ()
    assert image.info["icc_profile"] == profile
    if kind != "PNG":  # Pillow writes none there
        assert picture.metadata.xmp == XMP.replace(b'Orientation="6"', b'Orientation="1"')
        assert read_picture(tmp_path / "out").metadata.xmp == picture.metadata.xmp
    if kind != "WEBP":  # has no resolution
        assert picture.metadata.resolution == pytest.approx((300 / 25.4, 200 / 25.4), rel=1e-3)
        found = image.getexif()  # Pillow's own field is one number of JPEG's two
        assert [found[0x011A], found[0x011B]] == pytest.approx([300, 200], rel=1e-3)


def test_iptc_is_kept_in_jpeg_and_missed_elsewhere(tmp_path):
    data = saved(RGB, "JPEG")
    segment = b"\xff\xed" + (len(IPTC) + 2).to_bytes(2, "big") + IPTC
    picture = read(tmp_path, data[:2] + segment + data[2:])
    assert picture.metadata.iptc == IPTC
    image, notes = rewritten(tmp_path, picture, "jpg")
    assert image.info["photoshop"][0x0404] == IPTC[26:-1]
    assert notes == ()
    for name, title in (("png", "PNG"), ("webp", "WebP"), ("bmp", "BMP")):
        assert rewritten(tmp_path, picture, name)[1] == (f"{title} does not hold its IPTC",)


def test_what_a_bmp_lacks_is_said(tmp_path):
    picture = read(tmp_path, saved(RGB, "JPEG", exif=exif_block(), icc_profile=SRGB, xmp=XMP))
    _, notes = rewritten(tmp_path, picture, "bmp")
    missed = ("colour profile", "EXIF", "XMP")
    assert notes == tuple(f"BMP does not hold its {one}" for one in missed)


def test_resolution_of_a_bmp_is_kept(tmp_path):
    picture = read(tmp_path, saved(RGB, "BMP", dpi=(300, 300)))
    assert picture.metadata.resolution == pytest.approx((11.811, 11.811))
    image, _ = rewritten(tmp_path, picture, "bmp")
    assert image.info["dpi"] == pytest.approx((300, 300), rel=1e-4)


def test_what_is_too_long_for_a_jpeg_is_missed(tmp_path):
    picture = read(tmp_path, saved(RGB, "PNG"))
    long = picture._replace(metadata=Metadata(xmp=XMP + b" " * 70_000))
    assert rewritten(tmp_path, long, "jpg")[1] == ("JPEG does not hold its XMP",)
    assert rewritten(tmp_path, long, "png")[1] == ()


def test_a_damaged_exif_block_is_left_out_and_said(tmp_path):
    for damaged in (
        b"Exif\0\0II*\0\xff\xff\0\0",
        b"Exif\0\0garbage garbage garbage",
        exif_block()[:40],
    ):
        picture = read(tmp_path, saved(RGB, "JPEG", exif=damaged))
        assert picture.metadata.exif is None
        assert picture.notes == ("its EXIF is damaged: left out",)
        rewritten(tmp_path, picture, "jpg")


def test_the_rest_of_an_exif_block_keeps_its_place():
    block = exif_block(6, thumbnail=THUMBNAIL)
    upright = upright_exif(block)
    assert len(upright) == len(block) - len(THUMBNAIL)
    differing = [at for at, byte in enumerate(upright) if byte != block[at]]
    orientation, link = 6 + 8 + 2 + 12 + 8, 6 + 8 + 2 + 4 * 12
    assert differing == [orientation, link, link + 1]


@pytest.mark.parametrize(
    "text", [b'tiff:Orientation="%d"', b"<tiff:Orientation>%d</tiff:Orientation>"]
)
def test_orientation_in_xmp(text):
    assert upright_xmp(b"a" + text % 8 + b"b") == b"a" + text % 1 + b"b"


def test_a_profile_for_other_colours_is_left_out_and_said(tmp_path):
    grey = read(tmp_path, saved(GREY, "JPEG", icc_profile=SRGB))
    assert grey.metadata.profile is None
    assert grey.notes == ("its colour profile is for other colours: left out",)


def grey_profile() -> bytes:
    """A profile of grey with gamma 1 by hand (ICC.1:2010): header, white point, curve."""
    white = b"XYZ \0\0\0\0\x00\x00\xf6\xd6\x00\x01\x00\x00\x00\x00\xd3\x2d"
    curve = b"curv" + bytes(8)
    text = b"desc" + bytes(4) + (5).to_bytes(4, "big") + b"grey\0" + bytes(78)
    parts = {b"wtpt": white, b"kTRC": curve, b"desc": text.ljust(-(-len(text) // 4) * 4, b"\0")}
    table, body, at = len(parts).to_bytes(4, "big"), b"", 128 + 4 + 12 * len(parts)
    for name, part in parts.items():
        table += name + (at + len(body)).to_bytes(4, "big") + len(part).to_bytes(4, "big")
        body += part
    header = bytearray(128)
    header[:4] = (at + len(body)).to_bytes(4, "big")
    header[8:12] = b"\x02\x40\0\0"
    header[12:24] = b"mntrGRAYXYZ "
    header[36:40] = b"acsp"
    header[68:80] = white[8:]
    return bytes(header) + table + body


def test_a_grey_profile_stays_and_becomes_srgb_in_webp(tmp_path):
    profile = grey_profile()
    picture = read(tmp_path, saved(np.full((9, 7), 64, np.uint8), "PNG", icc_profile=profile))
    assert picture.metadata.profile == profile
    assert rewritten(tmp_path, picture, "tif")[0].info["icc_profile"] == profile
    image, _ = rewritten(tmp_path, picture, "webp")
    assert image.info["icc_profile"][16:20] == b"RGB "
    # 64 / 255 in linear light is 0.537 in sRGB's curve.
    assert np.asarray(image).mean() == pytest.approx(137, abs=2)


def test_cmyk_is_written_as_srgb(tmp_path):
    image, notes = rewritten(tmp_path, read(tmp_path, cmyk("JPEG")), "png")
    assert image.mode == "RGB"
    assert image.info["icc_profile"][16:20] == b"RGB "
    assert notes == ()


def test_16_bit_values_are_kept_with_their_profile(tmp_path):
    deep = np.random.default_rng(0).integers(0, 2**16, (8, 9, 3)).astype(np.uint16)
    picture = read(tmp_path, png(deep, 2))
    profiled = picture._replace(metadata=Metadata(profile=wide_gamut()))
    rewritten(tmp_path, profiled, "tif")
    np.testing.assert_array_equal(
        tifffile.imread(tmp_path / "out"), deep.repeat(2, axis=0).repeat(2, axis=1)
    )
