"""One part of a data set from its source images: a shard, or a validation pair.

The body of prepare's Ray tasks. A part is whole under its final name, or it is not there.
"""

import zlib
from fractions import Fraction
from typing import NamedTuple

import cv2
import numpy as np

from data_pipeline.errors import UserError
from data_pipeline.images import Image, ImageError, as_rgb, decode_image, encode_png
from data_pipeline.imresize import imresize
from data_pipeline.manifest import (
    DataSettings,
    ImageRecord,
    PartRecord,
    ShardRecord,
    ValidRecord,
    file_sha256,
    sha256_hex,
)
from data_pipeline.patches import aligned_patches, crop_to_multiple
from data_pipeline.shards import Patch
from data_pipeline.shards.formats import open_shard, shard_writer
from data_pipeline.sources import SourceImage
from data_pipeline.storage import Storage, open_storage

# Unfinished data sets keep a record of every finished part here.
PROGRESS = "progress/"

# Validation images must be large enough to be scored within their border.
_SSIM_WINDOW = 11


class Task(NamedTuple):
    """What to build.

    Attributes:
        name: The part's key without a suffix.
        images: One image for a validation pair, one or more for a shard.
        source_uri: The images' storage.
        is_shard: Whether it is a shard.
    """

    name: str
    images: tuple[SourceImage, ...]
    source_uri: str
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
    """A source image's sha256 and its aligned pair, uint8 [H, W, 1 or 3]."""

    sha256: str
    hr: Image
    lr: Image


class _UnusableImagesError(Exception):
    """Images of one task that cannot be used, with the reason for each."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__(*problems)
        self.problems = problems


def build_part(task: Task, settings: DataSettings, out_uri: str) -> Outcome:
    """Builds a part and leaves its record under `progress/`.

    Args:
        task: The part.
        settings: The data set's settings.
        out_uri: DATA.
    """
    cv2.setNumThreads(1)  # Ray runs one task per core
    build = _build_shard if task.is_shard else _build_valid
    try:
        source, storage = open_storage(task.source_uri), open_storage(out_uri)
        record = build(task, settings, source, storage)
        storage.write(task.progress_key, record.model_dump_json().encode())
    except _UnusableImagesError as error:
        return Outcome(None, error.problems)
    except UserError as error:  # would reach the driver as a RayTaskError with a traceback
        return Outcome(None, (str(error),))
    return Outcome(record, ())


def _build_shard(
    task: Task, settings: DataSettings, source: Storage, storage: Storage
) -> ShardRecord:
    key = f"{task.name}.{settings.format}"
    images: list[ImageRecord] = []
    problems: list[str] = []
    checksum = 0
    with storage.stage(key) as path:
        with shard_writer(settings.format, path, settings.geometry) as writer:
            for image in task.images:
                try:
                    pair = _load_pair(image, settings, source)
                    _check_size(
                        pair.hr, settings.patch_size, "pass a smaller --patch-size or leave it out"
                    )
                except ImageError as error:
                    problems.append(f"{source.uri}/{image.key}: {error}")
                    continue
                patches = [
                    Patch(*fields)
                    for fields in aligned_patches(
                        as_rgb(pair.hr),
                        as_rgb(pair.lr),
                        scale=settings.scale,
                        patch_size=settings.patch_size,
                        stride=settings.stride,
                    )
                ]
                writer.write(image.name, patches)
                for patch in patches:
                    checksum = _patch_checksum(patch.hr, patch.lr, checksum)
                images.append(
                    ImageRecord(
                        name=image.name,
                        sha256=pair.sha256,
                        bytes=image.size,
                        height=pair.hr.shape[0],
                        width=pair.hr.shape[1],
                        patches=len(patches),
                    )
                )
        if problems:
            raise _UnusableImagesError(tuple(problems))
        record = ShardRecord(
            path=key,
            bytes=path.stat().st_size,
            sha256=file_sha256(path),
            patches=sum(image.patches for image in images),
            images=tuple(images),
            offsets=tuple(writer.offsets),
        )
        reader = open_shard(settings.format, path, settings.geometry, record.offsets)
        read_back = 0
        for index in range(len(reader)):
            read_back = _patch_checksum(*reader.pair(index), read_back)
        if (len(reader), read_back) != (record.patches, checksum):
            raise OSError(f"{key}: what was written does not read back; is the disk full or bad?")
    return record


def _patch_checksum(hr: Image, lr: Image, value: int) -> int:
    for image in (hr, lr):
        value = zlib.crc32(np.ascontiguousarray(image).data, value)
    return value


def _build_valid(
    task: Task, settings: DataSettings, source: Storage, storage: Storage
) -> ValidRecord:
    (image,) = task.images
    try:
        pair = _load_pair(image, settings, source)
        smallest = 2 * settings.scale + _SSIM_WINDOW
        _check_size(pair.hr, smallest, "it cannot be scored; leave it out")
    except ImageError as error:
        raise _UnusableImagesError((f"{source.uri}/{image.key}: {error}",)) from error
    hr_key = f"valid/hr/{image.name}.png"
    lr_key = f"valid/lr_x{settings.scale}/{image.name}.png"
    hr_png, lr_png = encode_png(pair.hr), encode_png(pair.lr)
    storage.write(hr_key, hr_png)
    storage.write(lr_key, lr_png)
    return ValidRecord(
        name=image.name,
        sha256=pair.sha256,
        bytes=image.size,
        height=pair.hr.shape[0],
        width=pair.hr.shape[1],
        hr=hr_key,
        hr_sha256=sha256_hex(hr_png),
        lr=lr_key,
        lr_sha256=sha256_hex(lr_png),
    )


def _load_pair(image: SourceImage, settings: DataSettings, source: Storage) -> _Pair:
    """Reads an image and makes its LR. Raises ImageError if it cannot be used."""
    try:
        data = source.read(image.key)
    except OSError as error:
        raise ImageError(f"does not read: {error.strerror}") from error
    hr = crop_to_multiple(decode_image(data), settings.scale)
    _check_size(hr, settings.scale, "leave it out")
    return _Pair(sha256_hex(data), hr, imresize(hr, Fraction(1, settings.scale), settings.kernel))


def _check_size(hr: Image, smallest: int, mend: str) -> None:
    height, width = hr.shape[:2]
    if min(height, width) < smallest:
        raise ImageError(f"{width}x{height} pixels are less than {smallest}x{smallest}; {mend}")
