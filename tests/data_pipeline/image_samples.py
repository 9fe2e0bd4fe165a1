"""Small image files of every readable format, made by Pillow or by hand. Shared by tests."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import skimage
from PIL import Image

_COFFEE = Image.open(Path(skimage.__file__).parent / "data/coffee.png")
RGB = np.asarray(_COFFEE.crop((200, 100, 233, 124)))  # [24, 33, 3]
GREY = RGB[:, :, 1]
# 16-bit samples whose low bytes differ from their high bytes.
DEEP = RGB.astype(np.uint16) * 251 + np.arange(33, dtype=np.uint16)[None, :, None] * 7 + 5


def rounded(samples: np.ndarray) -> np.ndarray:
    return np.rint(samples / 257).astype(np.uint8)


def saved(pixels: np.ndarray | Image.Image, kind: str, **options) -> bytes:
    """Pixels as Pillow saves them."""
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def chunk(kind: bytes, body: bytes) -> bytes:
    """A chunk of a PNG with its right checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(
    samples: np.ndarray,
    colours: int,
    *,
    depth: int | None = None,
    before: bytes = b"",
    after: bytes = b"",
    interlaced: bool = False,
    rows: int | None = None,
) -> bytes:
    """A PNG written by hand: kinds that Pillow cannot write, and wrong ones.

    Args:
        samples: [H, W] or [H, W, C]; as many bits as their type has, or `depth`.
        colours: PNG's colour type.
        before: Chunks before the pixels.
        after: Chunks after them.
        interlaced: Whether the pixels come in the seven passes of Adam7.
        rows: How many rows the compressed stream holds, if not all.
    """
    height, width = samples.shape[:2]
    depth = depth or samples.dtype.itemsize * 8

    def lines(part):
        for line in part:
            if depth < 8:
                bits = (line[:, None] >> np.arange(depth)[::-1] & 1).astype(np.uint8)
                yield b"\0" + np.packbits(bits.ravel()).tobytes()
            else:
                yield b"\0" + line.astype(f">u{depth // 8}").tobytes()

    passes = [samples]
    if interlaced:
        steps = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2))
        steps = (*steps, (0, 1, 2, 2), (1, 0, 2, 1))
        passes = [samples[row::down, column::across] for row, column, down, across in steps]
    stream = zlib.compress(b"".join([line for part in passes for line in lines(part)][:rows]))
    header = struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, interlaced)
    chunks = chunk(b"IHDR", header), before, chunk(b"IDAT", stream), after, chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def bmp(header: bytes, body: bytes, *, table: bytes = b"") -> bytes:
    """A BMP: the header after its length, masks or palette, and the rows."""
    start = 14 + 4 + len(header) + len(table)
    file = struct.pack("<2sIHHII", b"BM", start + len(body), 0, 0, start, 4 + len(header))
    return file + header + table + body


def bmp_header(width: int, height: int, bits: int, compression: int = 0, colours: int = 0) -> bytes:
    """Windows's header of 40 bytes, without its length."""
    return struct.pack("<iiHHIIiiII", width, height, 1, bits, compression, 0, 0, 0, colours, 0)


def bmp_rows(pixels: np.ndarray) -> bytes:
    """BMP's rows of uint8 [H, W, C]: from the bottom up, BGR, padded to four bytes."""
    rows = pixels[::-1].reshape(len(pixels), -1)
    return np.pad(rows, ((0, 0), (0, -rows.shape[1] % 4))).tobytes()


def tiff(pixels: np.ndarray, *, more: tuple[tuple[int, int], ...] = (), order: str = "<") -> bytes:
    """An uncompressed TIFF of uint8 or uint16 [H, W, C], with more tags of 16-bit values."""
    pixels = np.atleast_3d(pixels)
    height, width, channels = pixels.shape
    bits = pixels.dtype.itemsize * 8
    body = pixels.astype(f"{order}u{bits // 8}").tobytes()
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: 1 if channels < 3 else 2, 273: 8}
    tags |= {277: channels, 278: height, 279: len(body), **dict(more)}
    entries = b""
    for tag, value in sorted(tags.items()):
        count = channels if tag == 258 else 1
        if count > 2:  # does not fit into the entry
            entries += struct.pack(f"{order}HHII", tag, 3, count, 8 + len(body))
        else:
            kind, code = (4, "I") if tag in (273, 279) else (3, "H")
            value_field = struct.pack(f"{order}{count}{code}", *[value] * count).ljust(4, b"\0")
            entries += struct.pack(f"{order}HHI", tag, kind, count) + value_field
    depths = struct.pack(f"{order}{channels}H", *[tags[258]] * channels)
    start = 8 + len(body) + len(depths)
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, start)
    directory = struct.pack(f"{order}H", len(tags)) + entries + bytes(4)
    return head + body + depths + directory


def zeros(data: bytes, start: float, end: float) -> bytes:
    """The file with a part of it, in fractions of its length, lost."""
    first, last = int(len(data) * start), int(len(data) * end)
    return data[:first] + bytes(last - first) + data[last:]


OPAQUE = np.full_like(GREY, 255)
HOLE = OPAQUE.copy()
HOLE[3, 4] = 254
PALETTE = Image.fromarray(RGB).quantize(40)
INDICES = np.asarray(PALETTE)
COLOURS = np.array(PALETTE.getpalette(), np.uint8).reshape(-1, 3)
_BGRX = np.pad(COLOURS[:, ::-1], ((0, 0), (0, 1))).tobytes()
_FOUR = np.dstack([RGB[:, :, ::-1], np.zeros_like(GREY)])  # as a BMP of 32 bits stores RGB
_FIELDS = struct.pack("<III", 0xFF0000, 0xFF00, 0xFF)
_RUNS = b"".join(b"".join(bytes([1, i]) for i in row) + b"\0\0" for row in INDICES[::-1])
HEIGHT, WIDTH = GREY.shape

BMPS = {
    "24 bits": saved(RGB, "BMP"),
    "top row first": bmp(bmp_header(WIDTH, -HEIGHT, 24), bmp_rows(RGB[::-1, :, ::-1])),
    "OS/2": bmp(struct.pack("<HHHH", WIDTH, HEIGHT, 1, 24), bmp_rows(RGB[:, :, ::-1])),
    "32 bits": bmp(bmp_header(WIDTH, HEIGHT, 32), bmp_rows(_FOUR)),
    "bit fields": bmp(bmp_header(WIDTH, HEIGHT, 32, 3), bmp_rows(_FOUR), table=_FIELDS),
}
PALETTE_BMPS = {
    "palette": saved(PALETTE, "BMP"),
    "OS/2, palette": bmp(
        struct.pack("<HHHH", WIDTH, HEIGHT, 1, 8),
        bmp_rows(INDICES),
        table=COLOURS[:, ::-1].tobytes().ljust(768, b"\0"),
    ),
    "run lengths": bmp(bmp_header(WIDTH, HEIGHT, 8, 1, len(COLOURS)), _RUNS + b"\0\1", table=_BGRX),
}
