import zlib

import cv2
import numpy as np
import pytest

from data_pipeline.images import ImageError, as_rgb, decode_image, encode_png
from tests.conftest import photograph

COLOUR = photograph("coffee.png")[:50, :61]


def encoded(image: np.ndarray, suffix: str = ".png") -> bytes:
    return cv2.imencode(suffix, image)[1].tobytes()


@pytest.mark.parametrize("suffix", [".png", ".bmp"])
def test_colour_is_rgb(suffix):
    np.testing.assert_array_equal(decode_image(encoded(COLOUR, suffix)), COLOUR[:, :, ::-1])


def test_jpeg_is_rgb_and_close():
    decoded = decode_image(encoded(COLOUR, ".jpg")).astype(int)
    assert np.abs(decoded - COLOUR[:, :, ::-1]).mean() < 3


def test_grey_keeps_one_channel_and_becomes_rgb():
    grey = COLOUR[:, :, 0]
    decoded = decode_image(encoded(grey))
    assert decoded.shape == (50, 61, 1)
    np.testing.assert_array_equal(as_rgb(decoded), np.dstack([grey] * 3))


def test_opaque_alpha_is_dropped():
    opaque = np.dstack([COLOUR, np.full(COLOUR.shape[:2], 255, np.uint8)])
    np.testing.assert_array_equal(decode_image(encoded(opaque)), COLOUR[:, :, ::-1])


def test_transparency_is_refused():
    alpha = np.full(COLOUR.shape[:2], 255, np.uint8)
    alpha[3, 4] = 254
    with pytest.raises(ImageError, match="transparent"):
        decode_image(encoded(np.dstack([COLOUR, alpha])))


def test_sixteen_bits_round_to_eight():
    deep = COLOUR.astype(np.uint16) * 257
    np.testing.assert_array_equal(decode_image(encoded(deep)), COLOUR[:, :, ::-1])
    up = np.full((2, 2), 129, np.uint16)  # 129 / 257 = 0.502
    assert decode_image(encoded(up)).max() == 1
    assert decode_image(encoded(up - 1)).max() == 0


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp"])
@pytest.mark.parametrize("part", [0, 0.5, 0.999])
def test_a_cut_file_is_refused(suffix, part):
    whole = encoded(COLOUR, suffix)
    with pytest.raises(ImageError, match="does not decode"):
        decode_image(whole[: int(len(whole) * part)])


def test_a_png_that_claims_to_be_huge_is_refused():
    claim = bytearray(encoded(COLOUR))
    claim[16:24] = (60000).to_bytes(4, "big") * 2
    claim[29:33] = zlib.crc32(claim[12:29]).to_bytes(4, "big")
    with pytest.raises(ImageError, match="does not decode"):
        decode_image(bytes(claim))


def test_a_damaged_png_is_refused():
    damaged = bytearray(encoded(COLOUR))
    damaged[len(damaged) // 2] ^= 1
    with pytest.raises(ImageError, match="does not decode"):
        decode_image(bytes(damaged))


@pytest.mark.parametrize("channels", [1, 3])
def test_png_round_trip(channels):
    image = COLOUR[:, :, :channels]
    np.testing.assert_array_equal(decode_image(encode_png(image)), image)
