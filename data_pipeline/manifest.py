"""The index of a data set, written last: what every file is, and what it was made from."""

import json
from functools import cached_property
from typing import Any, TypeAlias

from pydantic import BaseModel, ConfigDict, ValidationError

from data_pipeline.imresize import Kernel
from data_pipeline.platform.errors import UserError
from data_pipeline.platform.hashing import sha256_hex
from data_pipeline.platform.storage import Storage
from data_pipeline.shards import Geometry, ShardFormat

FORMAT_VERSION = 2
MANIFEST_KEY = "manifest.json"


class Record(BaseModel):
    """Base of all that the manifest holds: immutable, unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class DataSettings(Record):
    """What determines a data set's bytes, beside the sources' files.

    Attributes:
        source: URI of the training images.
        valid_source: URI of the validation images, or None for none.
        lr_source: URI of the training images' LR files; None where LR is made from HR.
        valid_lr_source: URI of the validation images' LR files likewise.
        format: Shard format.
        scale: Super-resolution factor.
        kernel: How LR was made from HR.
        patch_size: HR patch side, in pixels.
        stride: Distance of neighbouring patches, in HR pixels.
    """

    source: str
    valid_source: str | None
    lr_source: str | None = None
    valid_lr_source: str | None = None
    format: ShardFormat
    scale: int
    kernel: Kernel
    patch_size: int
    stride: int

    @property
    def train_kernel(self) -> Kernel | None:
        """The kernel that made the training images' LR; None where LR files were given."""
        return None if self.lr_source else self.kernel

    @property
    def geometry(self) -> Geometry:
        """Patch sides in pixels."""
        return Geometry(self.patch_size, self.patch_size // self.scale)


class SourceFile(Record):
    """A file that a data set was made from: its sha256 and its bytes."""

    sha256: str
    bytes: int


class OriginRecord(Record):
    """What was made of which files: a name, the HR file, the LR file if one was given, HR size."""

    name: str
    source: SourceFile
    lr_source: SourceFile | None
    height: int
    width: int


class ImageRecord(OriginRecord):
    """A training image, and how many patches were cut out of it."""

    patches: int


class StoredFile(Record):
    """A stored file: key, bytes, sha256."""

    path: str
    bytes: int
    sha256: str

    def damage(self, sha256: str, size: int) -> str | None:
        """What a found sha256 and size say of the file in a message; None if they are its own."""
        if size != self.bytes:
            return f"expected {self.bytes} bytes, found {size}"
        if sha256 != self.sha256:
            return f"expected sha256 {self.sha256}, found {sha256}"
        return None


class ShardRecord(StoredFile):
    """A shard: patches, images in order, byte offsets of each (HR, LR) patch in a TFRecord file."""

    patches: int
    images: tuple[ImageRecord, ...]
    offsets: tuple[tuple[int, int], ...] = ()


class ValidRecord(OriginRecord):
    """A validation pair: the stored PNGs."""

    hr: StoredFile
    lr: StoredFile


PartRecord: TypeAlias = ShardRecord | ValidRecord


class Manifest(Record):
    """A data set. Patch ids count through `shards` in order."""

    format_version: int
    settings: DataSettings
    shards: tuple[ShardRecord, ...]
    valid: tuple[ValidRecord, ...]

    @property
    def num_patches(self) -> int:
        """Training patches over all shards."""
        return sum(shard.patches for shard in self.shards)

    @property
    def train_bytes(self) -> int:
        """Bytes of all shards."""
        return sum(shard.bytes for shard in self.shards)

    @cached_property
    def paths(self) -> frozenset[str]:
        """Keys of all files of the data set, without the manifest's own."""
        return frozenset(file.path for record in self.records for file in stored_files(record))

    @property
    def records(self) -> tuple[PartRecord, ...]:
        """The records of all parts: shards, then validation pairs."""
        return (*self.shards, *self.valid)

    def to_json(self) -> bytes:
        """The bytes of manifest.json: the same manifest always gives the same bytes."""
        return self.model_dump_json(indent=1).encode() + b"\n"

    def sha256(self) -> str:
        """Identity of the data set."""
        return sha256_hex(self.to_json())


def stored_files(record: PartRecord) -> tuple[StoredFile, ...]:
    """The files of a part."""
    return (record,) if isinstance(record, ShardRecord) else (record.hr, record.lr)


def read_manifest(storage: Storage) -> Manifest | None:
    """Reads DATA's manifest.

    Returns:
        The manifest; None where there is none: DATA is no data set, or an unfinished one.

    Raises:
        UserError: If it was written by a newer version or is damaged.
    """
    if storage.size(MANIFEST_KEY) is None:
        return None
    where = f"{storage.uri}/{MANIFEST_KEY}"
    try:
        content: Any = json.loads(storage.read(MANIFEST_KEY))
        version = content["format_version"]
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{where}: is damaged; run jobs.prepare into another folder") from error
    if version != FORMAT_VERSION:
        raise UserError(
            f"{where}: has format version {version}, this program reads {FORMAT_VERSION}; "
            "use the version of the program that made it, or prepare the data set again"
        )
    try:
        return Manifest.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise UserError(f"{where}: is damaged at {field}: {first['msg']}") from error


def require_manifest(storage: Storage) -> Manifest:
    """Reads the manifest of a finished data set.

    Raises:
        UserError: As `read_manifest`, and where there is no manifest.
    """
    manifest = read_manifest(storage)
    if manifest is None:
        raise UserError(
            f"{storage.uri}: holds no {MANIFEST_KEY}, so it is no finished data set; "
            "make it with jobs.prepare"
        )
    return manifest
