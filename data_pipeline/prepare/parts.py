"""One part of a data set from its source images: a shard, or a validation pair.

The body of prepare's Ray tasks. A part is whole under its final name, or it is not there.
"""

import hashlib
import mmap
import zlib
from fractions import Fraction
from itertools import islice
from typing import NamedTuple

import cv2
import numpy as np

from data_pipeline.images import (
    Image,
    ImageError,
    as_rgb,
    decode_image,
    describe_size,
    encode_png,
)
from data_pipeline.imresize import imresize
from data_pipeline.manifest import (
    DataSettings,
    ImageRecord,
    PartRecord,
    ShardRecord,
    SourceFile,
    StoredFile,
    ValidRecord,
)
from data_pipeline.patches import aligned_patches, crop_to_multiple, is_pair
from data_pipeline.platform.errors import UserError
from data_pipeline.platform.hashing import sha256_hex
from data_pipeline.platform.storage import ReadableStorage, Storage, StoredObject
from data_pipeline.prepare.sources import Source, SourceImage
from data_pipeline.shards import Patch
from data_pipeline.shards.formats import open_shard, shard_writer

# Unfinished data sets keep a record of every finished part here.
PROGRESS = "progress/"

# Validation images must be large enough to be scored within their border.
_SSIM_WINDOW = 11

# Bounds a task's memory: 45 MB of the usual 480 px patches.
_PATCHES_PER_WRITE = 64


class Part(NamedTuple):
    """What to build.

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
        """Where the part's record lies until the manifest is written."""
        return f"{PROGRESS}{self.name}.json"


class Outcome(NamedTuple):
    """A task's record, or the images that cannot be used with the reason for each."""

    record: PartRecord | None
    problems: tuple[str, ...]


class _Pair(NamedTuple):
    """A source image's files and its aligned pair, uint8 [H, W, 1 or 3]."""

    source: SourceFile
    lr_source: SourceFile | None
    hr: Image
    lr: Image


class _UnusableImagesError(Exception):
    """Images of one task that cannot be used, with the reason for each."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__(*problems)
        self.problems = problems


def build_part(task: Part, settings: DataSettings, storage: Storage) -> Outcome:
    """Builds a part and leaves its record under `progress/`.

    Args:
        task: The part.
        settings: The data set's settings.
        storage: DATA.

    Raises:
        OSError, JobFailedError: If the storage fails; it may work the next time.
    """
    cv2.setNumThreads(1)  # Ray runs one task per core
    build = _build_shard if task.is_shard else _build_valid
    try:
        record = build(task, settings, storage)
        storage.write(task.progress_key, record.model_dump_json().encode())
    except _UnusableImagesError as error:
        return Outcome(None, error.problems)
    except UserError as error:  # would reach the driver as a RayTaskError with a traceback
        return Outcome(None, (str(error),))
    return Outcome(record, ())


def _build_shard(task: Part, settings: DataSettings, storage: Storage) -> ShardRecord:
    key = f"{task.name}.{settings.format}"
    images: list[ImageRecord] = []
    problems: list[str] = []
    checksum = 0
    with storage.stage(key) as path:
        with shard_writer(settings.format, path, settings.geometry) as writer:
            for image in task.source.images:
                try:
                    pair = _load_pair(image, task.source, settings)
                    _check_size(
                        pair.hr, settings.patch_size, "pass a smaller --patch-size or leave it out"
                    )
                except ImageError as error:
                    problems.append(f"{task.source.storage.uri}/{image.hr.key}: {error}")
                    continue
                patches = aligned_patches(
                    as_rgb(pair.hr),
                    as_rgb(pair.lr),
                    scale=settings.scale,
                    patch_size=settings.patch_size,
                    stride=settings.stride,
                )
                count = 0
                while chunk := [Patch(*patch) for patch in islice(patches, _PATCHES_PER_WRITE)]:
                    writer.write(image.name, chunk)
                    for patch in chunk:
                        checksum = _patch_checksum(patch.hr, patch.lr, checksum)
                    count += len(chunk)
                images.append(
                    ImageRecord(
                        name=image.name,
                        source=pair.source,
                        lr_source=pair.lr_source,
                        height=pair.hr.shape[0],
                        width=pair.hr.shape[1],
                        patches=count,
                    )
                )
        if problems:
            raise _UnusableImagesError(tuple(problems))
        with path.open("rb") as file:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        record = ShardRecord(
            path=key,
            bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            patches=sum(image.patches for image in images),
            images=tuple(images),
            offsets=tuple(writer.offsets),
        )
        if _read_back(content, record, settings) != checksum:
            raise OSError(f"{key}: what was written does not read back; is the disk full or bad?")
    return record


def _read_back(content: mmap.mmap, record: ShardRecord, settings: DataSettings) -> int:
    """Checksum over the patches that a reader finds in the file."""
    reader = open_shard(settings.format, content, settings.geometry, record.offsets)
    checksum = 0
    for index in range(len(reader)):
        checksum = _patch_checksum(*reader.pair(index), checksum)
    return checksum


def _patch_checksum(hr: Image, lr: Image, value: int) -> int:
    for image in (hr, lr):
        value = zlib.crc32(np.ascontiguousarray(image).data, value)
    return value


def _build_valid(task: Part, settings: DataSettings, storage: Storage) -> ValidRecord:
    (image,) = task.source.images
    try:
        pair = _load_pair(image, task.source, settings)
        smallest = 2 * settings.scale + _SSIM_WINDOW
        _check_size(pair.hr, smallest, "it cannot be scored; leave it out")
    except ImageError as error:
        where = f"{task.source.storage.uri}/{image.hr.key}"
        raise _UnusableImagesError((f"{where}: {error}",)) from error
    return ValidRecord(
        name=image.name,
        source=pair.source,
        lr_source=pair.lr_source,
        height=pair.hr.shape[0],
        width=pair.hr.shape[1],
        hr=_store_png(storage, f"valid/hr/{image.name}.png", pair.hr),
        lr=_store_png(storage, f"valid/lr_x{settings.scale}/{image.name}.png", pair.lr),
    )


def _store_png(storage: Storage, key: str, image: Image) -> StoredFile:
    data = encode_png(image)
    storage.write(key, data)
    return StoredFile(path=key, bytes=len(data), sha256=sha256_hex(data))


def _load_pair(image: SourceImage, source: Source, settings: DataSettings) -> _Pair:
    """Reads an image, and reads or makes its LR. Raises ImageError if it cannot be used."""
    hr_file, hr = _load(source.storage, image.hr)
    if image.lr is None or source.lr_storage is None:
        hr = crop_to_multiple(hr, settings.scale)
        _check_size(hr, settings.scale, "leave it out")
        lr = imresize(hr, Fraction(1, settings.scale), settings.kernel)
        return _Pair(hr_file, None, hr, lr)
    try:
        lr_file, lr = _load(source.lr_storage, image.lr)
    except ImageError as error:
        raise ImageError(f"its LR {source.lr_storage.uri}/{image.lr.key} {error}") from error
    if not is_pair(hr, lr, settings.scale):
        raise ImageError(
            f"{describe_size(hr)} is not {settings.scale} times "
            f"{source.lr_storage.uri}/{image.lr.key} {describe_size(lr)}"
        )
    return _Pair(hr_file, lr_file, hr, lr)


def _load(storage: ReadableStorage, file: StoredObject) -> tuple[SourceFile, Image]:
    try:
        data = storage.read(file.key)
    except OSError as error:
        reason = error.strerror or error
        raise ImageError(f"does not read: {reason}") from error
    return SourceFile(sha256=sha256_hex(data), bytes=len(data)), decode_image(data)


def _check_size(hr: Image, smallest: int, fix: str) -> None:
    height, width = hr.shape[:2]
    if min(height, width) < smallest:
        raise ImageError(f"{width}x{height} pixels are less than {smallest}x{smallest}; {fix}")
