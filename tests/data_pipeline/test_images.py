import io
import re
import struct

import cv2
import numpy as np
import pytest
import simplejpeg
from PIL import Image, PngImagePlugin
from skimage import data as photographs

from data_pipeline.images import ImageError, as_rgb, decode_image, encode_png
from tests.data_pipeline.image_samples import (
    BMPS,
    COLOURS,
    DEEP,
    GREY,
    HEIGHT,
    HOLE,
    INDICES,
    OPAQUE,
    PALETTE,
    PALETTE_BMPS,
    RGB,
    WIDTH,
    bmp,
    bmp_header,
    bmp_rows,
    chunk,
    png,
    rounded,
    saved,
    tiff,
    turned,
    zeros,
)

BIG = cv2.resize(RGB, (256, 256), interpolation=cv2.INTER_LINEAR)
JPEG = saved(BIG, "JPEG", quality=95)
FOUR = GREY >> 4  # 4-bit samples
DARK = DEEP >> 4  # 12 bits
PALE = np.array([[9, 9, 9], [200, 200, 200]], np.uint8)  # greys that are not their own index
PALETTE_TIFF = saved(PALETTE, "TIFF")
COLOUR_MAP = Image.open(io.BytesIO(PALETTE_TIFF)).tag_v2[320]
FRAMED = np.pad(RGB, ((0, 9), (0, 0), (0, 0)))


@pytest.fixture(autouse=True)
def quiet(capfd):
    """The libraries print nothing of their own: it would not name the file."""
    yield
    assert capfd.readouterr().err == ""


def cases(table: dict):
    rows = [row if isinstance(row, tuple) else (row,) for row in table.values()]
    return [pytest.param(*row, id=name) for name, row in zip(table, rows, strict=True)]


def refusal(data: bytes) -> str:
    with pytest.raises(ImageError) as caught:
        decode_image(data)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def long_text() -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add_text("history", "x" * 3_000_000, zip=True)
    return info


@pytest.mark.parametrize(
    ("data", "expected"),
    cases(
        {
            "png": (saved(RGB, "PNG"), RGB),
            "png, interlaced": (png(RGB, 2, interlaced=True), RGB),
            "png, opaque alpha": (saved(np.dstack([RGB, OPAQUE]), "PNG"), RGB),
            "png, colour key of no pixel": (saved(RGB, "PNG", transparency=(1, 254, 3)), RGB),
            "png, palette": (saved(PALETTE, "PNG"), COLOURS[INDICES]),
            "png, unused clear colour": (
                saved(PALETTE, "PNG", transparency=b"\xff" * 40 + b"\0"),
                COLOURS[INDICES],
            ),
            "png, 4-bit palette": (
                png(FOUR, 3, depth=4, before=chunk(b"PLTE", COLOURS[:16].tobytes())),
                COLOURS[FOUR],
            ),
            "png, long text": (saved(RGB, "PNG", pnginfo=long_text()), RGB),
            "png, black last rows": (saved(FRAMED, "PNG"), FRAMED),
            **{f"bmp, {name}": (data, RGB) for name, data in BMPS.items()},
            **{f"bmp, {name}": (data, COLOURS[INDICES]) for name, data in PALETTE_BMPS.items()},
            "webp": (saved(RGB, "WEBP", lossless=True), RGB),
            "webp, opaque alpha": (saved(np.dstack([RGB, OPAQUE]), "WEBP", lossless=True), RGB),
            "tiff": (saved(RGB, "TIFF"), RGB),
            "tiff, LZW": (saved(RGB, "TIFF", compression="tiff_lzw"), RGB),
            "tiff, Deflate": (saved(RGB, "TIFF", compression="tiff_adobe_deflate"), RGB),
            "tiff, PackBits": (saved(RGB, "TIFF", compression="packbits"), RGB),
            "tiff, big-endian": (tiff(RGB, order=">"), RGB),
            "tiff, opaque alpha": (saved(np.dstack([RGB, OPAQUE]), "TIFF"), RGB),
            "tiff, palette": (saved(PALETTE, "TIFF"), COLOURS[INDICES]),
            "tiff, palette of 8-bit values": (
                PALETTE_TIFF.replace(
                    struct.pack("<768H", *COLOUR_MAP),
                    struct.pack("<768H", *(value // 256 for value in COLOUR_MAP)),
                ),
                COLOURS[INDICES],
            ),
        }
    ),
)
def test_colours(data, expected):
    decoded = decode_image(data)
    assert decoded.dtype == np.uint8
    np.testing.assert_array_equal(decoded, expected)


@pytest.mark.parametrize(
    ("data", "expected"),
    cases(
        {
            "png": (saved(GREY, "PNG"), GREY),
            "png, interlaced": (png(GREY, 0, interlaced=True), GREY),
            "png, opaque alpha": (saved(np.dstack([GREY, OPAQUE]), "PNG"), GREY),
            "png, 4 bits": (png(FOUR, 0, depth=4), FOUR * 17),
            "png, 2 bits": (png(FOUR >> 2, 0, depth=2), (FOUR >> 2) * 85),
            "png, 1 bit": (png(FOUR >> 3, 0, depth=1), (FOUR >> 3) * 255),
            "png, 1 bit, colour key of no pixel": (
                png(np.zeros_like(GREY), 0, depth=1, before=chunk(b"tRNS", b"\0\1")),
                np.zeros_like(GREY),
            ),
            "bmp": (saved(GREY, "BMP"), GREY),
            "bmp, palette of greys": (
                bmp(
                    bmp_header(WIDTH, HEIGHT, 8, colours=2),
                    bmp_rows(FOUR >> 3),
                    table=np.pad(PALE, ((0, 0), (0, 1))).tobytes(),
                ),
                PALE[FOUR >> 3, 0],
            ),
            "tiff": (saved(GREY, "TIFF"), GREY),
            "tiff, zero is white": (tiff(255 - GREY, more=((262, 0),)), GREY),
            "tiff, zero is white, 16 bits": (
                tiff(65535 - DEEP[:, :, 1], more=((262, 0),)),
                rounded(DEEP[:, :, 1]),
            ),
            "tiff, fax": (
                saved(Image.fromarray(GREY > 100), "TIFF", compression="group4"),
                (GREY > 100) * np.uint8(255),
            ),
        }
    ),
)
def test_grey_keeps_one_channel_and_becomes_rgb(data, expected):
    decoded = decode_image(data)
    np.testing.assert_array_equal(decoded, expected[:, :, None])
    np.testing.assert_array_equal(as_rgb(decoded), np.dstack([expected] * 3))


@pytest.mark.parametrize(
    ("data", "expected"),
    cases(
        {
            "png": (png(DEEP, 2), DEEP),
            "png, interlaced": (png(DEEP, 2, interlaced=True), DEEP),
            "png, opaque alpha": (png(np.dstack([DEEP, OPAQUE * np.uint16(257)]), 6), DEEP),
            "png, grey": (png(DEEP[:, :, :1], 0), DEEP[:, :, :1]),
            "png, grey, opaque alpha": (
                png(np.dstack([DEEP[:, :, 0], OPAQUE * np.uint16(257)]), 4),
                DEEP[:, :, :1],
            ),
            "png, grey, colour key of no pixel": (
                png(DEEP[:, :, :1], 0, before=chunk(b"tRNS", b"\xff\xff")),
                DEEP[:, :, :1],
            ),
            "tiff": (tiff(DEEP), DEEP),
            "tiff, big-endian": (tiff(DEEP, order=">"), DEEP),
            "tiff, LZW": (cv2.imencode(".tiff", DEEP[:, :, ::-1])[1].tobytes(), DEEP),
            "tiff, grey": (tiff(DEEP[:, :, 0]), DEEP[:, :, :1]),
            "tiff, grey, big-endian": (tiff(DEEP[:, :, 0], order=">"), DEEP[:, :, :1]),
        }
    ),
)
def test_sixteen_bits_round_to_eight(data, expected):
    np.testing.assert_array_equal(decode_image(data), rounded(expected))


def test_a_sixteen_bit_half_rounds_up():
    column = np.array([[128], [129], [65534]], np.uint16)  # 128 / 257 = 0.498, 129 / 257 = 0.502
    assert decode_image(png(column, 0)).ravel().tolist() == [0, 1, 255]


DIM = cv2.resize(DEEP, (64, 48), interpolation=cv2.INTER_LINEAR) >> 3  # 13 bits, or a dark picture
NIGHT = DIM.copy()
NIGHT[:4, :4] = 60000  # 0.5 % of the picture


@pytest.mark.parametrize(
    ("data", "expected"),
    cases(
        {
            "png says 16 bits": (png(DIM, 2, before=chunk(b"sBIT", b"\x10" * 3)), DIM),
            "png says 12 bits, scaled": (
                png(DIM << 3 & 0xFFF0, 2, before=chunk(b"sBIT", b"\x0c" * 3)),
                DIM << 3 & 0xFFF0,
            ),
            "tiff says 16 bits": (tiff(DIM, more=((281, 65535),)), DIM),
            "a lamp": (png(NIGHT, 2), NIGHT),
            "8 bits, scaled": (png((DIM >> 8) * np.uint16(257), 2), (DIM >> 8) * np.uint16(257)),
            "12 bits, moved up": (tiff(DIM & 0xFFF0), DIM & 0xFFF0),
            "8 bits, moved up": (png(DIM & 0xFF00, 2), DIM & 0xFF00),
            "10 bits, moved up": (png(DIM & 0xFFC0, 2), DIM & 0xFFC0),
            "14 bits, moved up": (png(DEEP & 0xFFFC, 2), DEEP & 0xFFFC),
            "a light page, zero is white": (
                tiff(DIM[:, :, 0], more=((262, 0),)),
                65535 - DIM[:, :, :1],
            ),
            "black": (png(DIM * np.uint16(0), 2), DIM * 0),
        }
    ),
)
def test_a_dark_sixteen_bit_picture_is_read(data, expected):
    np.testing.assert_array_equal(decode_image(data), rounded(expected))


@pytest.mark.parametrize(
    "data",
    cases(
        {
            "a version of JFIF": JPEG[:11] + b"\2\1" + JPEG[13:],
            "no version of JFIF": JPEG[:11] + b"\0\0" + JPEG[13:],
            "parameters of the scan": re.sub(
                rb"(\xff\xda\0\x0c\x03.{6})\0\x3f\0", b"\\1\0\0\0", JPEG, flags=re.DOTALL
            ),
            "a colour profile": JPEG[:2] + b"\xff\xe2\0\x12ICC_PROFILE\0\3\2??" + JPEG[2:],
            "two of them": (
                JPEG[:2] + b"\xff\xe2\0\x12ICC_PROFILE\0\3\2??" + JPEG[2:11] + b"\3" + JPEG[12:]
            ),
        }
    ),
)
def test_a_wrong_header_that_changes_no_pixel_is_no_damage(data):
    assert data != JPEG
    with pytest.raises(ValueError, match=r"revision|SOS|ICC"):
        simplejpeg.decode_jpeg(data, strict=True)
    np.testing.assert_array_equal(decode_image(data), decode_image(JPEG))
    assert refusal(zeros(data, 0.5, 1)).startswith("does not decode: damaged: ")


@pytest.mark.parametrize(
    "data",
    cases(
        {
            "4:4:4": saved(RGB, "JPEG", subsampling="4:4:4"),
            "4:2:2": saved(RGB, "JPEG", subsampling="4:2:2"),
            "4:2:0": saved(RGB, "JPEG", subsampling="4:2:0"),
            "4:4:0": simplejpeg.encode_jpeg(RGB, colorsubsampling="440"),
            "progressive": saved(RGB, "JPEG", progressive=True),
            "restart markers": saved(RGB, "JPEG", restart_marker_blocks=2),
            "RGB inside": saved(RGB, "JPEG", keep_rgb=True),
            "grey": saved(GREY, "JPEG"),
            "first of an MPO": saved(RGB, "MPO", save_all=True, append_images=[PALETTE.convert()]),
            "bytes after its end": saved(RGB, "JPEG") + b"a film" * 100,
        }
    ),
)
def test_jpeg_has_the_same_pixels_everywhere(data):
    decoded = decode_image(data)
    pillow = np.atleast_3d(np.asarray(Image.open(io.BytesIO(data))))
    np.testing.assert_array_equal(decoded, pillow)
    opencv = np.atleast_3d(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_ANYCOLOR))
    np.testing.assert_array_equal(decoded, opencv[:, :, ::-1])
    assert (
        np.abs(decoded.astype(int) - (RGB if decoded.shape[2] == 3 else GREY[:, :, None])).mean()
        < 6
    )


UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: np.rot90(a, 2),
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
    8: np.rot90,
    0: lambda a: a,  # no such orientation
    9: lambda a: a,
}


def exif_text(orientation: int) -> bytes:
    block = turned(orientation).tobytes()
    return chunk(
        b"tEXt", f"Raw profile type exif\0\nexif\n{len(block):8}\n{block.hex()}\n".encode()
    )


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize(
    ("make", "stored"),
    cases(
        {
            "jpeg": (lambda o: saved(GREY, "JPEG", quality=100, exif=turned(o)), None),
            "png": (lambda o: saved(RGB, "PNG", exif=turned(o)), RGB),
            "png, after the pixels": (
                lambda o: png(DEEP, 2, after=chunk(b"eXIf", turned(o).tobytes()[6:])),
                rounded(DEEP),
            ),
            "png, as text": (lambda o: png(RGB, 2, before=exif_text(o)), RGB),
            "webp": (lambda o: saved(RGB, "WEBP", lossless=True, exif=turned(o)), RGB),
            "tiff": (lambda o: tiff(RGB, more=((274, o),)), RGB),
            "tiff, LZW": (
                lambda o: saved(RGB, "TIFF", compression="tiff_lzw", exif=turned(7)).replace(
                    struct.pack("<HHIH", 274, 3, 1, 7), struct.pack("<HHIH", 274, 3, 1, o)
                ),
                RGB,
            ),
            "tiff, 16 bits": (lambda o: tiff(DEEP, more=((274, o),)), rounded(DEEP)),
        }
    ),
)
def test_orientation_is_applied_once(make, stored, orientation):
    if stored is None:
        stored = decode_image(make(1))
    np.testing.assert_array_equal(decode_image(make(orientation)), UPRIGHT[orientation](stored))


@pytest.mark.parametrize(
    "block", [b"", b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"\xfe" * 30]
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_damaged_exif_block_turns_nothing(kind, block):
    plain = decode_image(saved(RGB, kind))
    np.testing.assert_array_equal(decode_image(saved(RGB, kind, exif=block)), plain)


def wide(samples: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    return np.dstack([samples, alpha * np.uint16(257)])


@pytest.mark.parametrize(
    "data",
    cases(
        {
            "png": saved(np.dstack([RGB, HOLE]), "PNG"),
            "png, grey": saved(np.dstack([GREY, HOLE]), "PNG"),
            "png, colour key": saved(RGB, "PNG", transparency=tuple(map(int, RGB[5, 6]))),
            "png, grey key": saved(GREY, "PNG", transparency=int(GREY[5, 6])),
            "png, grey key, 4 bits": png(
                FOUR, 0, depth=4, before=chunk(b"tRNS", bytes([0, FOUR[5, 6]]))
            ),
            "png, grey key, 1 bit": png(FOUR >> 3, 0, depth=1, before=chunk(b"tRNS", b"\0\1")),
            "png, palette": saved(PALETTE, "PNG", transparency=int(INDICES[5, 6])),
            "png, palette, half": saved(PALETTE, "PNG", transparency=b"\x80" * 40),
            "png, 16 bits": png(wide(DEEP, HOLE), 6),
            "png, 16-bit grey": png(wide(DEEP[:, :, 0], HOLE), 4),
            "png, 16-bit colour key": png(
                DEEP, 2, before=chunk(b"tRNS", DEEP[5, 6].astype(">u2").tobytes())
            ),
            "png, 16-bit grey key": png(
                DEEP[:, :, 1], 0, before=chunk(b"tRNS", DEEP[5, 6, 1:2].astype(">u2").tobytes())
            ),
            "webp": saved(np.dstack([RGB, HOLE]), "WEBP", lossless=True),
            "tiff": saved(np.dstack([RGB, HOLE]), "TIFF"),
            "tiff, 16 bits": tiff(wide(DEEP, HOLE), more=((338, 2),)),
            "bmp": bmp(
                bmp_header(WIDTH, HEIGHT, 32, 3)
                + struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000),
                bmp_rows(np.dstack([RGB[:, :, ::-1], HOLE])),
            ),
        }
    ),
)
def test_transparency_is_refused(data):
    assert refusal(data) == "is partly transparent; flatten it onto a background"


HOT = DIM >> 1
HOT[5, 6] = 65535
STAMPED = DARK.copy()
STAMPED[:4, :8] = 65535
FRAMES = [Image.fromarray(RGB), Image.fromarray(RGB[::-1].copy())]


@pytest.mark.parametrize(
    ("data", "message"),
    cases(
        {
            "apng": (saved(FRAMES[0], "PNG", save_all=True, append_images=FRAMES[1:]), "an animat"),
            "apng, hidden picture": (
                saved(FRAMES[0], "PNG", save_all=True, append_images=FRAMES, default_image=True),
                "an animation",
            ),
            "webp": (saved(FRAMES[0], "WEBP", save_all=True, append_images=FRAMES[1:]), "frames"),
            "tiff, pages": (saved(FRAMES[0], "TIFF", save_all=True, append_images=FRAMES), "pages"),
            "jpeg, CMYK": (saved(FRAMES[0].convert("CMYK"), "JPEG"), "is CMYK; convert it to RGB"),
            "tiff, CMYK": (saved(FRAMES[0].convert("CMYK"), "TIFF"), "is CMYK; convert it to RGB"),
            "tiff, LAB": (saved(FRAMES[0].convert("LAB"), "TIFF"), "is CIELAB; convert"),
            "tiff, float": (saved(GREY.astype(np.float32), "TIFF"), "has 32-bit float samples"),
            "tiff, 32 bits": (saved(GREY.astype(np.int32), "TIFF"), "has 32-bit signed samples"),
            "tiff, float RGB": (tiff(DEEP, more=((339, 3),)), "has 16-bit float samples; convert"),
            "tiff, signed": (tiff(GREY, more=((339, 2),)), "has 8-bit signed samples; convert it"),
            "tiff, 16-bit grey and alpha": (
                tiff(wide(DEEP[:, :, 0], OPAQUE), more=((338, 2),)),
                "is a TIFF with 2 samples of 16 bits a pixel (photometric interpretation 1), which",
            ),
            "tiff, three greys": (tiff(RGB, more=((262, 1),)), "a TIFF with 3 samples of 8 bits"),
            "tiff, 16-bit palette": (tiff(DEEP[:, :, 0], more=((262, 3),)), "1 sample of 16 bits"),
            "tiff, raw": (tiff(DEEP[:, :, 0], more=((262, 32803),)), "is a camera's raw file; dev"),
            "tiff, DNG": (tiff(RGB, more=((50706, 1),)), "is a camera's raw file; develop it"),
            "tiff, preview": (tiff(RGB, more=((254, 1),)), "begins with a preview"),
            "tiff, JPEG 2000 inside": (tiff(RGB, more=((259, 34712),)), "compression (34712)"),
            "tiff, YCbCr 4:2:0": (tiff(RGB, more=((262, 6),)), "YCbCr with fewer samples"),
            "tiff, 12 bits": (tiff(GREY, more=((258, 12),)), "has 12-bit samples; convert it"),
            "jpeg, 12 bits": (JPEG.replace(b"\xff\xc0\0\x11\x08", b"\xff\xc1\0\x11\x0c"), "12-bit"),
            "jpeg, odd sampling": (
                JPEG.replace(b"\1\x22\0\2\x11\1\3\x11\1", b"\1\x22\0\2\x12\1\3\x21\1"),
                "an unusual chroma subsampling; save it as 4:4:4",
            ),
            "tiff with JPEG inside": (saved(RGB, "TIFF", compression="jpeg"), "save it with LZW"),
            "png, 12 of 16 bits": (png(DARK, 2), "holds 12 bits or fewer in 16-bit samples; scale"),
            "png, grey, 10 of 16 bits": (png(DARK[:, :, 0] >> 2, 0), "holds 12 bits or fewer"),
            "tiff, 12 of 16 bits": (tiff(DARK), "holds 12 bits or fewer"),
            "png, 13 of 16 bits": (png(DIM, 2), "holds 13 bits or fewer"),
            "tiff, 14 of 16 bits": (tiff(DEEP >> 2), "holds 14 bits or fewer"),
            "tiff, grey, 14 of 16 bits": (tiff(DEEP[:, :, 0] >> 2), "holds 14 bits or fewer"),
            "tiff, 12 of 16 bits, says 16": (tiff(DARK, more=((281, 65535),)), "holds 12 bits or"),
            "png, 12 of 16 bits, says 16": (
                png(DARK, 2, before=chunk(b"sBIT", b"\x10" * 3)),
                "holds 12 bits or fewer",
            ),
            "png, 12 bits in 14": (png(DARK << 2, 2), "holds 14 bits or fewer"),
            "png, 13 bits in 14": (png(DEEP >> 3 << 1, 2), "holds 14 bits or fewer"),
            "png, 12 of 16 bits, a stamp": (png(STAMPED, 2), "holds 12 bits or fewer"),
            "tiff, dark, zero is white": (
                tiff(65535 - DIM[:, :, 0], more=((262, 0),)),
                "holds 13 bits or fewer",
            ),
            "png, 12 of 16 bits, hot pixels": (png(HOT, 2), "holds 12 bits or fewer"),
            "tiff, says 15 bits": (tiff(DEEP >> 1, more=((281, 32767),)), "holds 15 bits or fewer"),
            "png, says 15 bits": (
                png(DEEP >> 1, 2, before=chunk(b"sBIT", b"\x0f" * 3)),
                "holds 15 bits or fewer in 16-bit samples; scale its values, which end at",
            ),
            "png, iOS": (png(RGB, 2, before=chunk(b"CgBI", b"\0\0\0\0")), "is a PNG for iOS"),
            "bmp, JPEG inside": (
                bmp(bmp_header(WIDTH, HEIGHT, 24, 4), b""),
                "does not decode: Unsupported BMP compression (4); convert it to PNG",
            ),
            "png, huge": (
                png(np.empty((1, 1), np.uint8), 0).replace(
                    chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)),
                    chunk(b"IHDR", struct.pack(">IIBBBBB", 40000, 40000, 8, 0, 0, 0, 0)),
                ),
                "40000x40000 pixels are more than 1,073,741,824",
            ),
            "bmp, huge": (bmp(bmp_header(40000, 40000, 24), b""), "40000x40000 pixels are more"),
            "bmp, wide": (bmp(bmp_header(2**20 + 1, 2, 24), b""), "1048577x2 pixels"),
            "tiff, huge": (tiff(GREY, more=((256, 40000), (257, 40000))), "40000x40000 pixels"),
            "gif": (saved(PALETTE, "GIF"), "it is a GIF file; convert it to PNG"),
            "heic": (b"\0\0\0\x24ftypheic\0\0\0\0mif1heic" + bytes(99), "it is a HEIC file"),
            "svg": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "an SVG drawing"),
            "html": (b"\xef\xbb\xbf\n<!DOCTYPE html><title>404</title>", "an HTML page"),
            "git lfs": (b"version https://git-lfs.github.com/spec/v1\noid", "run `git lfs pull`"),
            "wav": (b"RIFF\x24\0\0\0WAVEfmt " + bytes(40), "RIFF file"),
            "text": (b"not an image", "it is not a PNG, JPEG, BMP, WebP or TIFF file"),
            "empty": (b"", "it is empty"),
            "zeros": (bytes(5000), "it is filled with zeros"),
        }
    ),
)
def test_another_kind_is_refused_by_name(data, message):
    reason = refusal(data)
    assert message in reason
    assert "damaged" not in reason or "unusual" in message


def without_strip(data: bytes) -> bytes:
    """A TIFF that says that its only strip has half of the rows."""
    return data.replace(struct.pack("<HHIH", 278, 3, 1, HEIGHT), struct.pack("<HHIH", 278, 3, 1, 9))


WHOLE = {
    "jpeg": JPEG,
    "jpeg, progressive": saved(BIG, "JPEG", quality=95, progressive=True),
    "jpeg, restart markers": saved(BIG, "JPEG", quality=95, restart_marker_blocks=8),
    "jpeg, grey": saved(BIG[:, :, 0], "JPEG", quality=90),
    "png": saved(BIG, "PNG"),
    "png, palette": saved(Image.fromarray(BIG).quantize(99), "PNG"),
    "png, 16 bits": png(BIG * np.uint16(257), 2),
    "webp": saved(BIG, "WEBP", quality=95),
    "webp, lossless": saved(BIG, "WEBP", lossless=True),
    "tiff, LZW": saved(BIG, "TIFF", compression="tiff_lzw"),
    "tiff, Deflate": saved(BIG, "TIFF", compression="tiff_adobe_deflate"),
}


@pytest.mark.parametrize("data", cases(WHOLE))
@pytest.mark.parametrize(("start", "end"), [(0.5, 1), (0.5, 0.99), (0.3, 0.5)])
def test_a_file_that_lost_a_part_is_refused(data, start, end):
    decode_image(data)
    assert refusal(zeros(data, start, end)).startswith("does not decode: damaged: ")


@pytest.mark.parametrize("data", cases(WHOLE | {"bmp": saved(BIG, "BMP"), "tiff": tiff(BIG)}))
@pytest.mark.parametrize("part", [0, 0.01, 0.5, 0.999])
def test_a_cut_file_is_refused(data, part):
    assert refusal(data[: int(len(data) * part)]).startswith("does not decode: ")


HALF = len(JPEG) // 2
PNG = saved(RGB, "PNG", pnginfo=long_text())


@pytest.mark.parametrize(
    "data",
    cases(
        {
            "jpeg, no end": JPEG[:-2],
            "jpeg, bytes put in": JPEG[:HALF] + b"\xff\xd0garbage" + JPEG[HALF:],
            "jpeg, bytes left out": JPEG[:HALF] + JPEG[HALF + 40 :],
            "jpeg, half of another": JPEG[:HALF] + saved(BIG[::-1].copy(), "JPEG")[HALF // 2 :],
            "jpeg, claim": JPEG.replace(
                struct.pack(">HH", 256, 256), struct.pack(">HH", 9999, 9999)
            ),
            "png, pixels": PNG[: len(PNG) // 2] + b"?" + PNG[len(PNG) // 2 + 1 :],
            "png, text": PNG[:60] + bytes([PNG[60] ^ 1]) + PNG[61:],
            "png, no end": PNG[:-12],
            "png, rows missing": png(RGB, 2, rows=HEIGHT // 2),
            "png, rows missing, interlaced": png(RGB, 2, rows=HEIGHT // 2, interlaced=True),
            "png, rows missing, palette that begins with white": png(
                INDICES, 3, rows=HEIGHT // 2, before=chunk(b"PLTE", bytes([255] * 768))
            ),
            "png, rows missing, 16-bit grey": png(DEEP[:, :, 0], 0, rows=HEIGHT - 1),
            "tiff, strips missing": without_strip(tiff(RGB)),
            "bmp, claim of run lengths": bmp(bmp_header(30000, 30000, 8, 1), bytes(2000)),
            "webp, claim": saved(RGB, "WEBP").replace(b"\x9d\x01\x2a!\0", b"\x9d\x01\x2a\xff\x3f"),
        }
    ),
)
def test_damage_is_refused(data):
    assert refusal(data).startswith("does not decode: damaged: ")


NOISE = np.random.default_rng(0).normal(0, 6, (2048, 2048, 3))
LARGE = np.clip(np.tile(photographs.astronaut(), (4, 4, 1)) + NOISE, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("lost", [512, 4096])
@pytest.mark.parametrize("quality", [30, 80])
def test_a_lost_block_of_a_large_webp_is_refused(quality, lost):
    data = saved(LARGE, "WEBP", quality=quality, method=0)
    assert decode_image(data).shape == LARGE.shape
    middle = len(data) // 2
    damaged = data[:middle] + bytes(lost) + data[middle + lost :]
    assert re.search(r"damaged: \d+ bytes of its compressed pixels are zero", refusal(damaged))


@pytest.mark.parametrize(("kind", "method"), [("white", 0), ("white", 4), ("gradient", 4)])
def test_a_photograph_with_a_flat_part_is_not_taken_for_damage(kind, method):
    part = LARGE.copy()
    part[1000:] = 255 if kind == "white" else (np.arange(2048) // 50)[None, :, None] + 200
    data = saved(part, "WEBP", quality=80, method=method)
    assert bytes(700) in data
    np.testing.assert_array_equal(decode_image(data), np.asarray(Image.open(io.BytesIO(data))))


def on_white(photo: np.ndarray, height: int, width: int) -> np.ndarray:
    page = np.full((height, width, 3), 255, np.uint8)
    page[-612:-100, 100:612] = photo
    return page


@pytest.mark.parametrize("lost", [512, 4096])
@pytest.mark.parametrize("shape", [(800, 800), (1000, 1600), (3000, 800)])
def test_a_lost_block_of_a_webp_with_a_flat_part_is_refused(shape, lost):
    """The flat part is at another place than the block."""
    data = saved(on_white(photographs.astronaut(), *shape), "WEBP", quality=80)
    decode_image(data)
    middle = len(data) // 2
    assert "are zero" in refusal(data[:middle] + bytes(lost) + data[middle + lost :])


@pytest.mark.parametrize("shape", [(712, 712), (3000, 800)])
def test_a_flat_part_of_a_lossless_webp_of_a_fast_encoder_is_not_taken_for_damage(shape):
    page = on_white(photographs.astronaut(), *shape)
    data = saved(page, "WEBP", lossless=True, method=0, quality=80)
    assert bytes(20000) in data
    np.testing.assert_array_equal(decode_image(data), page)


def test_a_lost_block_across_two_strips_is_refused():
    data = saved(BIG, "TIFF", compression="tiff_lzw", tiffinfo={278: 1})
    start = Image.open(io.BytesIO(data)).tag_v2[273][100]
    damaged = data[: start - 256] + bytes(512) + data[start + 256 :]
    assert "bytes of its compressed pixels are zero" in refusal(damaged)


@pytest.mark.parametrize("value", [0, 255, (250, 20, 3)])
@pytest.mark.parametrize(
    "options",
    [
        {"format": "PNG"},
        {"format": "WEBP", "lossless": True},
        {"format": "WEBP", "quality": 100, "method": 0},
        {"format": "TIFF", "compression": "tiff_lzw"},
        {"format": "TIFF", "compression": "tiff_adobe_deflate"},
    ],
    ids=lambda options: "-".join(map(str, options.values())),
)
def test_a_flat_picture_is_not_taken_for_damage(options, value):
    flat = np.empty((1000, 1400, 3), np.uint8)
    flat[:] = value
    out = io.BytesIO()
    Image.fromarray(flat).save(out, **options)
    assert np.abs(decode_image(out.getvalue()).astype(int) - flat).max() <= 2


@pytest.mark.parametrize("channels", [1, 3])
def test_png_round_trip(channels):
    image = RGB[:, :, :channels]
    np.testing.assert_array_equal(decode_image(encode_png(image)), image)
