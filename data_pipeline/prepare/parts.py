"""Builds one part of a data set from its source images: a shard, or a validation pair.

This is the body of prepare's Ray tasks. A part is whole under its final name, or it is not there.
"""

import json
import mmap
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice, zip_longest
from typing import NamedTuple

import cv2
import numpy as np

from data_pipeline.images import Image, ImageError, as_rgb, decode_image, encode_png
from data_pipeline.imresize import imresize
from data_pipeline.manifest import (
    DataSettings,
    ImageRecord,
    OriginRecord,
    PartRecord,
    ShardRecord,
    SourceFile,
    StoredFile,
    ValidRecord,
)
from data_pipeline.pairs import doubt_about, fit_pair
from data_pipeline.patches import Patch, aligned_patches, crop_to_multiple
from data_pipeline.platform.errors import UserError
from data_pipeline.platform.hashing import sha256_hex
from data_pipeline.platform.storage import ReadableStorage, Storage, StoredObject
from data_pipeline.prepare.listing import SourceImage
from data_pipeline.prepare.sources import Source
from data_pipeline.shards import ShardReader
from data_pipeline.shards.formats import open_shard, shard_writer

# Unfinished data sets keep a record of every finished part here.
PROGRESS = "progress/"

# A validation image must be large enough for SSIM's window after the border is cut.
_SSIM_WINDOW = 11

# Both bound a task's memory, whatever the shard's size. 64 of the usual patches are 47 MB.
_PATCHES_PER_WRITE = 64
_KEPT_BYTES = 64 << 20


class Part(NamedTuple):
    """A part that is to be built. Its PartRecord says what was built.

    Attributes:
        name: The part's key without a suffix.
        source: One image for a validation pair, one or more for a shard.
        is_shard: Whether it is a shard.
    """

    name: str
    source: Source
    is_shard: bool

    @property
    def progress_key(self) -> str:
        """Where what was built is noted until the manifest is written."""
        # An image's name may be as long as a file system allows; ".json" is longer than ".png".
        name = self.name if self.is_shard else f"valid/{sha256_hex(self.name.encode())}"
        return f"{PROGRESS}{name}.json"


class Built(NamedTuple):
    """A part's record, and what is doubtful about its images: a line for each of them."""

    record: PartRecord
    doubts: tuple[str, ...]

    def to_bytes(self) -> bytes:
        """As it is noted under `progress/`: the record and each doubt, a line of JSON each."""
        lines = (self.record.model_dump_json(), *map(json.dumps, self.doubts))
        return "\n".join(lines).encode()

    @classmethod
    def from_bytes(cls, data: bytes, part: Part) -> "Built":
        """Reads what `to_bytes` wrote. Raises ValueError if it is damaged."""
        record, *doubts = data.decode().split("\n")
        kind: type[PartRecord] = ShardRecord if part.is_shard else ValidRecord
        return cls(kind.model_validate_json(record), tuple(map(json.loads, doubts)))


class UnusableImagesError(UserError):
    """Source images that cannot be used: a line for each, which image and why."""


class _Pair(NamedTuple):
    """A source image's aligned pair, uint8 [H, W, 1 or 3], where it is from, and any doubt."""

    origin: OriginRecord
    hr: Image
    lr: Image
    doubt: str | None


class _ShardPairs:
    """Loads the pairs of a shard's images, each twice. The first ones stay in memory in between."""

    def __init__(self, source: Source, settings: DataSettings) -> None:
        self._source, self._settings = source, settings
        self._kept: dict[str, _Pair] = {}
        self._room = _KEPT_BYTES

    def load(self, image: SourceImage) -> _Pair:
        """See `_load_pair`."""
        if image.name in self._kept:
            return self._kept[image.name]
        fix = "pass a smaller --patch-size or leave it out"
        smallest = self._settings.patch_size
        pair = _load_pair(image, self._source, self._settings, smallest, fix)
        if self._room > 0:
            self._kept[image.name] = pair
            self._room -= pair.hr.nbytes + pair.lr.nbytes
        return pair


def build_part(part: Part, settings: DataSettings, storage: Storage) -> Built:
    """Builds a part and notes it under `progress/`.

    Args:
        part: The part.
        settings: The data set's settings.
        storage: DATA.

    Raises:
        UnusableImagesError: Naming all images of the part that cannot be used.
        OSError, JobFailedError: If the storage fails; it may work the next time.
    """
    cv2.setNumThreads(1)  # Ray runs one task per core
    build = _build_shard if part.is_shard else _build_valid
    built = build(part, settings, storage)
    storage.write(part.progress_key, built.to_bytes())
    return built


def _build_shard(part: Part, settings: DataSettings, storage: Storage) -> Built:
    key = f"{part.name}.{settings.format}"
    pairs = _ShardPairs(part.source, settings)
    images: list[ImageRecord] = []
    problems: list[str] = []
    doubts: list[str] = []
    with storage.stage(key) as staged:
        with shard_writer(settings.format, staged.path, settings.geometry) as writer:
            for image in part.source.images:
                try:
                    pair = pairs.load(image)
                except UnusableImagesError as error:
                    problems.extend(error.problems)
                    continue
                patches = _cut(pair, settings)
                count = 0
                while chunk := list(islice(patches, _PATCHES_PER_WRITE)):
                    writer.write(image.name, chunk)
                    count += len(chunk)
                images.append(ImageRecord(**dict(pair.origin), patches=count))
                doubts += [pair.doubt] if pair.doubt else []
        if problems:
            raise UnusableImagesError(*problems)
        with staged.path.open("rb") as file:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        record = ShardRecord(
            path=key,
            bytes=len(content),
            sha256=staged.sha256,
            patches=sum(image.patches for image in images),
            images=tuple(images),
            offsets=tuple(writer.offsets),
        )
        reader = open_shard(settings.format, content, settings.geometry, record.offsets)
        cut = (patch for image in part.source.images for patch in _cut(pairs.load(image), settings))
        if not _reads_back(reader, cut):
            raise OSError(f"{key}: what was written does not read back; is the disk full or bad?")
    return Built(record, tuple(doubts))


def _cut(pair: _Pair, settings: DataSettings) -> Iterator[Patch]:
    return aligned_patches(
        as_rgb(pair.hr),
        as_rgb(pair.lr),
        scale=settings.scale,
        patch_size=settings.patch_size,
        stride=settings.stride,
    )


def _reads_back(reader: ShardReader, patches: Iterator[Patch]) -> bool:
    """Whether a reader finds exactly these patches, in this order."""
    found = (reader.pair(index) for index in range(len(reader)))
    return all(
        one and other and np.array_equal(one[0], other.hr) and np.array_equal(one[1], other.lr)
        for one, other in zip_longest(found, patches)
    )


def _build_valid(part: Part, settings: DataSettings, storage: Storage) -> Built:
    (image,) = part.source.images
    smallest = 2 * settings.scale + _SSIM_WINDOW
    fix = "it cannot be scored; leave it out"
    pair = _load_pair(image, part.source, settings, smallest, fix)
    record = ValidRecord(
        **dict(pair.origin),
        hr=_store_png(storage, f"valid/hr/{image.name}.png", pair.hr),
        lr=_store_png(storage, f"valid/lr_x{settings.scale}/{image.name}.png", pair.lr),
    )
    return Built(record, (pair.doubt,) if pair.doubt else ())


def _store_png(storage: Storage, key: str, image: Image) -> StoredFile:
    data = encode_png(image)
    storage.write(key, data)
    return StoredFile(path=key, bytes=len(data), sha256=sha256_hex(data))


def _load_pair(
    image: SourceImage, source: Source, settings: DataSettings, smallest: int, fix: str
) -> _Pair:
    """Reads an image, and reads or makes its LR.

    Raises:
        UnusableImagesError: If one of them cannot be used, or a side of HR is below `smallest`.
    """
    where = f"{source.storage.uri}/{image.hr.key}"
    lr_file = doubt = None
    try:
        hr_file, hr = _load(source.storage, image.hr)
        if image.lr and source.lr_storage:
            lr_where = f"{source.lr_storage.uri}/{image.lr.key}"
            try:
                lr_file, lr = _load(source.lr_storage, image.lr)
            except ImageError as error:
                raise ImageError(f"its LR {lr_where} {error}") from error
            hr, lr = fit_pair(hr, lr, settings.scale, lr_where)
            doubt = doubt_about(hr, lr)
        else:
            hr = crop_to_multiple(hr, settings.scale)
            _check_size(hr, settings.scale, "leave it out")
            lr = imresize(hr, Fraction(1, settings.scale), settings.kernel)
        _check_size(hr, smallest, fix)
    except ImageError as error:
        raise UnusableImagesError(f"{where}: {error}") from error
    height, width = hr.shape[:2]
    origin = OriginRecord(
        name=image.name, source=hr_file, lr_source=lr_file, height=height, width=width
    )
    doubt = doubt and f"{lr_where}: may not be the LR of {where}, it is {doubt}"
    return _Pair(origin, hr, lr, doubt)


def _load(storage: ReadableStorage, file: StoredObject) -> tuple[SourceFile, Image]:
    try:
        data = storage.read(file.key)
    except OSError as error:
        raise ImageError(f"does not read: {error.strerror or error}") from error
    return SourceFile(sha256=sha256_hex(data), bytes=len(data)), decode_image(data)


def _check_size(hr: Image, smallest: int, fix: str) -> None:
    height, width = hr.shape[:2]
    if min(height, width) < smallest:
        raise ImageError(f"{width}x{height} pixels are less than {smallest}x{smallest}; {fix}")
