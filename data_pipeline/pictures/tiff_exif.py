"""EXIF in TIFF files, which libvips neither reads nor writes there.

A TIFF holds EXIF as two more directories of tags, and some tags of its own directory (EXIF 3.0,
section 4.6). An EXIF block is a small TIFF file. So both ways, directories are copied.
"""

import io
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from data_pipeline.pictures.metadata import EXIF_HEAD

# Tags of the first directory that say something of the photograph: description, maker, model,
# software, time, artist, copyright.
_DESCRIPTIVE = (0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x8298)
_EXIF, _GPS = 0x8769, 0x8825
_POSITIONS_INSIDE = 0xA005  # another directory, for old cameras' file names
_WIDTH, _HEIGHT = 0xA002, 0xA003
# A tag's type -> bytes of a value, and of its numbers.
_TYPES = {1: (1, 1), 2: (1, 1), 3: (2, 2), 4: (4, 4), 5: (8, 4), 6: (1, 1), 7: (1, 1), 8: (2, 2)}
_TYPES |= {9: (4, 4), 10: (8, 4), 11: (4, 4), 12: (8, 8), 13: (4, 4), 16: (8, 8)}
_LONG, _LONG8 = 4, 16
_MOST_TAGS, _MOST_BYTES = 2**16, 2**26  # of a directory, of a value; more is damage


class _Tag(NamedTuple):
    type: int
    length: int
    value: bytes  # little-endian


class _Shape(NamedTuple):
    """How a file's numbers are stored: of a TIFF or a BigTIFF, little- or big-endian."""

    order: str
    number: str
    position: str

    @property
    def large(self) -> bool:
        return self.position == "Q"


_Tags = dict[int, _Tag]
_LITTLE = _Shape("<", "H", "I")


def exif_of_tiff(file: BinaryIO) -> bytes | None:
    """Reads the EXIF of a TIFF file.

    Args:
        file: At its start.

    Returns:
        An EXIF block without orientation and thumbnail; None if the file has no EXIF.

    Raises:
        ValueError: If the first directory is damaged.
    """
    shape, first = _open(file)
    tags = _read(file, shape, first)
    found = {number: tags[number] for number in _DESCRIPTIVE if number in tags}
    inner = _inner(file, shape, tags)
    if not found and not inner:
        return None
    head = b"II*\0"
    body, start = _packed(found, inner, at=8, shape=_LITTLE)
    return EXIF_HEAD + head + struct.pack("<I", start) + body


def append_exif(path: Path, exif: bytes, *, height: int, width: int) -> None:
    """Adds an EXIF block to a TIFF file: a new first directory at its end that names all.

    Args:
        path: A little-endian TIFF, as libvips writes it.
        exif: An EXIF block.
        height: Of the picture, for EXIF's own copy.
        width: The same.

    Raises:
        ValueError: If the block's first directory is damaged; the file is as it was.
        OSError: If the disk is full.
    """
    block = io.BytesIO(exif.removeprefix(EXIF_HEAD))
    shape, first = _open(block)
    outer = _read(block, shape, first)
    inner = _inner(block, shape, outer)
    for number, side in ((_WIDTH, width), (_HEIGHT, height)):
        if number in inner.get(_EXIF, {}):
            inner[_EXIF][number] = _Tag(_LONG, 1, struct.pack("<I", side))
    with path.open("r+b") as file:
        shape, first = _open(file)
        if shape.order != "<":
            raise ValueError("expected a little-endian TIFF")
        tags = _read(file, shape, first)
        tags |= {number: outer[number] for number in _DESCRIPTIVE if number in outer}
        at = file.seek(0, io.SEEK_END)
        at += file.write(bytes(-at % 8))
        body, start = _packed(tags, inner, at=at, shape=shape)
        file.write(body)
        file.flush()
        file.seek(8 if shape.large else 4)
        file.write(struct.pack(f"<{shape.position}", start))


def _open(file: BinaryIO) -> tuple[_Shape, int]:
    """How a file's numbers are stored, and where its first directory is."""
    head = file.read(16)
    order = {b"II": "<", b"MM": ">"}.get(head[:2])
    if order is None or len(head) < 8:
        raise ValueError("no TIFF")
    if 43 in head[2:4]:
        shape, at = _Shape(order, "Q", "Q"), 8
    else:
        shape, at = _Shape(order, "H", "I"), 4
    try:
        return shape, int(struct.unpack_from(order + shape.position, head, at)[0])
    except struct.error as error:
        raise ValueError("no TIFF") from error


def _read(file: BinaryIO, shape: _Shape, at: int) -> _Tags:
    """A directory's tags. Those whose type or place is wrong are left out: some cameras write such.

    Raises:
        ValueError: If the directory does not lie in the file.
    """
    file.seek(at)
    (count,) = _unpack(file, shape.order + shape.number)
    if count > _MOST_TAGS:
        raise ValueError("a directory has too many tags")
    room = struct.calcsize(f"={shape.position}")
    entries = [_unpack(file, f"{shape.order}HH{shape.position}{room}s") for _ in range(count)]
    tags = {}
    for number, type_, values, inline in entries:
        size, word = _TYPES.get(type_, (0, 1))
        length = values * size
        if not 0 < length <= _MOST_BYTES:
            continue
        value = inline[:length]
        if length > room:
            file.seek(struct.unpack(shape.order + shape.position, inline)[0])
            value = file.read(length)
        if len(value) < length:
            continue
        if shape.order == ">":
            value = np.frombuffer(value, f">u{word}").astype(f"<u{word}").tobytes()
        tags[number] = _Tag(type_, values, value)
    return tags


def _unpack(file: BinaryIO, pattern: str) -> tuple[Any, ...]:
    data = file.read(struct.calcsize(pattern))
    try:
        return struct.unpack(pattern, data)
    except struct.error as error:
        raise ValueError("a directory of tags lies outside of the file") from error


def _inner(file: BinaryIO, shape: _Shape, tags: _Tags) -> dict[int, _Tags]:
    """The directories of EXIF and GPS that a first directory names, by the tag that does."""
    inner = {}
    for number in (_EXIF, _GPS):
        if number in tags:
            at = int.from_bytes(tags[number].value, "little")
            with suppress(ValueError):  # a damaged one is left out
                inner[number] = _read(file, shape, at)
                inner[number].pop(_POSITIONS_INSIDE, None)
    return inner


def _packed(tags: _Tags, inner: dict[int, _Tags], *, at: int, shape: _Shape) -> tuple[bytes, int]:
    """Directories as bytes for position `at` of a little-endian file, and the first one's place."""
    body = b""
    pointers = {}
    for number, directory in inner.items():
        place = struct.pack(f"<{shape.position}", at + len(body))
        pointers[number] = _Tag(_LONG8 if shape.large else _LONG, 1, place)
        body += _directory(directory, at=at + len(body), shape=shape)
    return body + _directory(tags | pointers, at=at + len(body), shape=shape), at + len(body)


def _directory(tags: _Tags, *, at: int, shape: _Shape) -> bytes:
    """A directory of tags and, behind it, their values that need more room."""
    room = struct.calcsize(f"={shape.position}")
    size = struct.calcsize(f"<{shape.number}") + len(tags) * (4 + 2 * room) + room
    head = struct.pack(f"<{shape.number}", len(tags))
    values = b""
    for number, tag in sorted(tags.items()):
        place = tag.value
        if len(place) > room:
            place = struct.pack(f"<{shape.position}", at + size + len(values))
            values += tag.value + bytes(-len(tag.value) % 8)
        head += struct.pack(f"<HH{shape.position}", number, tag.type, tag.length)
        head += place.ljust(room, b"\0")
    return head + bytes(room) + values
