"""Reads WebP files. They have no checksum: damage is a missing end or a range of zeros."""

import io

import numpy as np
import numpy.typing as npt
from PIL.WebPImagePlugin import WebPImageFile

from data_pipeline.images.image import Image, ImageError
from data_pipeline.images.samples import (
    ZEROED,
    check_header,
    orientation,
    read_samples,
    zero_runs,
)

# A lost block of a disk is 512 zeros or more. Photographs have runs below 60 bytes.
_ZEROS = 256
# A flat or smooth part of a picture is zeros, too: a byte for 300 pixels (libwebp's method 0) to
# 10,000 (its default), so for a block of 16x16 or more; without loss half a byte a pixel at most.
_BLOCK = 16
# How far from its bytes' place in the file a flat part may be in the picture, as shares of both.
_NEAR = 0.25
_FEW = 2048  # bytes, of which the share says nothing


def read_webp(data: bytes) -> tuple[Image, int]:
    """Decodes a WebP file. See `decode_image`.

    Returns:
        uint8 [H, W, 3] as stored, and its EXIF orientation.
    """
    if data[8:12] != b"WEBP":
        raise ImageError("does not decode: it is a RIFF file (sound or film), not a WebP image")
    header = WebPImageFile(io.BytesIO(data))
    check_header(header)
    image = read_samples(header, lambda: WebPImageFile(io.BytesIO(data)))
    view = memoryview(data)
    start = 12
    while start + 8 <= len(data):
        kind = data[start : start + 4]
        end = start + 8 + int.from_bytes(view[start + 4 : start + 8], "little")
        body = bytes(view[start + 8 : end])
        if kind == b"VP8L":
            _check_zeros(body, image, zeros_per_block=_BLOCK**2 // 2)
        elif kind == b"VP8 ":
            # Two streams (RFC 6386, section 9): how blocks are predicted, and their coefficients.
            second = 10 + (int.from_bytes(body[:3], "little") >> 5)
            for stream in (body[10:second], body[second:]):
                _check_zeros(stream, image, zeros_per_block=1)
        start = end + end % 2
    return image, orientation(header)


def _check_zeros(compressed: bytes, image: Image, *, zeros_per_block: int) -> None:
    """Refuses a run of zeros where the picture has no flat part that needs as many.

    The picture is stored from its top to its bottom. So the share of the other bytes before the run
    is about the share of the picture's detail before the flat part.
    """
    runs = zero_runs(compressed, _ZEROS)
    if not runs:
        return
    places, lengths = _flat_parts(image)
    written = np.cumsum(np.frombuffer(compressed, np.uint8) > 0)
    for start, end in runs:
        near = np.abs(places - written[start] / max(1, written[-1])) <= _NEAR
        near |= written[-1] < _FEW
        if end - start > zeros_per_block * lengths[near].max(initial=0):
            raise ImageError(ZEROED.format(end - start))


def _flat_parts(image: Image) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """The flat parts of a picture: blocks that follow each other in their order in the file.

    A block is flat if the values of each colour differ by 2 at most. The detail of a block is the
    logarithm of how much they differ, as an encoder needs bits for it.

    Returns:
        The share of the picture's detail before each part, and its length in blocks.
    """
    missing = [(0, -side % _BLOCK) for side in image.shape[:2]]
    whole = np.pad(image, (*missing, (0, 0)), mode="edge")
    rows, columns = whole.shape[0] // _BLOCK, whole.shape[1] // _BLOCK
    blocks = whole.reshape(rows, _BLOCK, columns, _BLOCK, -1)
    spread = np.ptp(blocks, axis=(1, 3)).max(axis=2).ravel()
    flat = spread <= 2
    ends = np.flatnonzero(np.diff(flat, prepend=False, append=False))
    detail = np.cumsum(np.where(flat, 0.0, np.log2(1.0 + spread)))
    before = np.append(0.0, detail)[ends[::2]] / max(1.0, detail[-1] if detail.size else 0.0)
    return before, ends[1::2] - ends[::2]
