"""The pictures of a study as PNG files that differ in nothing but their pixels."""

import struct
import zlib

import cv2
import numpy as np

from data_pipeline.images import Image, as_rgb

GREY = 119  # of the page and of a trap's ground: mid-grey in sRGB

_FONT, _THICKNESS = cv2.FONT_HERSHEY_SIMPLEX, 2


def stored_png(image: Image) -> bytes:
    """A PNG file without compression.

    A compressed file is smaller the smoother its picture: its size would tell raters the method.
    Two files of this function are equally long if their pictures are equally large.

    Args:
        image: uint8 [H, W, 1 or 3]; grey becomes RGB.
    """
    rgb = np.ascontiguousarray(as_rgb(image))
    height, width, _ = rgb.shape
    rows = b"".join(b"\0" + row.tobytes() for row in rgb)  # filter 0: the pixels as they are
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 0)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def trap_picture(text: str, side: int) -> Image:
    """Words on grey: uint8 [side, side, 3]."""
    image = np.full((side, side, 3), GREY, np.uint8)
    (width, height), _ = cv2.getTextSize(text, _FONT, 1.0, _THICKNESS)
    scale = 0.85 * side / width
    corner = (round((side - scale * width) / 2), round((side + scale * height) / 2))
    cv2.putText(image, text, corner, _FONT, scale, (255, 255, 255), _THICKNESS, cv2.LINE_AA)
    return image
