"""Picture files that programs and cameras make, and broken ones. Shared by tests."""

import struct

import numpy as np
from PIL import Image, ImageCms

from tests.data_pipeline.image_samples import RGB, chunk, png, saved

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf='
    b'"http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
    b'xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6" tiff:Make="Maker"/>'
    b"</rdf:RDF></x:xmpmeta>"
)
IPTC = b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0\0\0\0\x0b\x1c\x02\x05\0\x06A name\0"
MAKER_NOTE = b"MAKER NOTE \x00\x01\x02\xff"


def wide_gamut() -> bytes:
    """sRGB's profile with other primaries: a profile that is not the usual one."""
    profile = bytearray(SRGB)
    at = profile.index(b"XYZ \0\0\0\0", 200) + 8
    profile[at + 3] ^= 0x40
    return bytes(profile)


def exif_block(orientation: int = 1, *, thumbnail: bytes = b"", order: str = "<") -> bytes:
    """An EXIF block by hand: maker, orientation, exposure, MakerNote, size, GPS, thumbnail."""
    directories = (
        {
            0x010F: (2, b"Maker\0"),
            0x0112: (3, struct.pack(f"{order}H", orientation)),
            0x8769: (4, 1),
            0x8825: (4, 2),
        },
        {
            0x829A: (5, struct.pack(f"{order}II", 1, 250)),
            0x9003: (2, b"2020:01:01 00:00:00\0"),
            0x9204: (10, struct.pack(f"{order}ii", 1, 3)),
            0x927C: (7, MAKER_NOTE),
            0xA002: (4, struct.pack(f"{order}I", 33)),
            0xA003: (4, struct.pack(f"{order}I", 24)),
        },
        {
            0x0000: (1, bytes((2, 3, 0, 0))),
            0x0001: (2, b"N\0"),
            0x0002: (5, struct.pack(f"{order}6I", 52, 1, 30, 1, 15, 10)),
        },
        {0x0103: (3, struct.pack(f"{order}H", 6)), 0x0201: (4, 3), 0x0202: (4, len(thumbnail))},
    )[: 4 if thumbnail else 3]
    sizes = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1, 10: 8}
    lengths = [
        2 + 12 * len(one) + 4 + sum(len(v) for _, v in one.values() if isinstance(v, bytes))
        for one in directories
    ]
    starts = [8 + sum(lengths[:index]) for index in range(len(lengths) + 1)]
    pointers = {0x8769: starts[1], 0x8825: starts[2], 0x0201: starts[-1], 0x0202: len(thumbnail)}
    block = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8)
    for index, one in enumerate(directories):
        values, entries = b"", b""
        for tag, (kind, value) in one.items():
            data = struct.pack(f"{order}I", pointers[tag]) if isinstance(value, int) else value
            place = data.ljust(4, b"\0")
            if len(data) > 4:
                room = starts[index] + 2 + 12 * len(one) + 4 + len(values)
                place, values = struct.pack(f"{order}I", room), values + data
            entries += struct.pack(f"{order}HHI", tag, kind, len(data) // sizes[kind]) + place
        link = starts[3] if index == 0 and thumbnail else 0
        block += struct.pack(f"{order}H", len(one)) + entries + struct.pack(f"{order}I", link)
        block += values.ljust(lengths[index] - 2 - 12 * len(one) - 4, b"\0")
    return b"Exif\0\0" + block + thumbnail


def small_jpeg() -> bytes:
    return saved(np.zeros((6, 8, 3), np.uint8), "JPEG")


def animated(kind: str) -> bytes:
    other = Image.fromarray(RGB[::-1])
    return saved(RGB, kind, save_all=True, append_images=[other])


def apng_with_long_text() -> bytes:
    """The mark of the animation lies far behind the file's start."""
    frames = chunk(b"tEXt", b"Comment\0" + b"a" * 9000) + chunk(b"acTL", struct.pack(">II", 2, 0))
    return png(RGB, 2, before=frames)


def cmyk(kind: str, *, adobe: bool = True) -> bytes:
    """Red on the left, blue on the right. JPEG holds ink inverted, with Adobe's marker or not."""
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:, :16], pixels[:, 16:] = (220, 30, 20), (30, 40, 200)
    options = {"quality": 100} if kind == "JPEG" else {}
    data = saved(Image.fromarray(pixels).convert("CMYK"), kind, **options)
    if kind == "JPEG" and not adobe:
        at = data.index(b"\xff\xee")
        data = data[:at] + data[at + 2 + int.from_bytes(data[at + 2 : at + 4], "big") :]
    return data
