"""The files that a data set was made of: opens its sources, and finds what has changed since."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

from data_pipeline.manifest import (
    DataSettings,
    Manifest,
    OriginRecord,
    PartRecord,
    ShardRecord,
    SourceFile,
)
from data_pipeline.platform.errors import UserError
from data_pipeline.platform.hashing import sha256_hex
from data_pipeline.platform.storage import ReadableStorage, StoredObject, in_threads
from data_pipeline.prepare.div2k import open_div2k
from data_pipeline.prepare.listing import SourceImage
from data_pipeline.prepare.sources import DIV2K, Source, open_source

# The clocks of two storages may differ by this.
_CLOCKS_DIFFER_SECONDS = 3600.0


class Original(NamedTuple):
    """A file that an image of a data set was made of.

    Attributes:
        image: The image's name.
        storage: Where the file is.
        file: The file as it is listed now.
        known: What it was when it was read.
    """

    image: str
    storage: ReadableStorage
    file: StoredObject
    known: SourceFile

    def may_be_newer(self, than: float) -> bool:
        """Whether it may have changed after a moment, in seconds since 1970 by another clock."""
        return self.file.changed > than - _CLOCKS_DIFFER_SECONDS


def open_sources(settings: DataSettings, mirror: str | None) -> tuple[Source, Source | None]:
    """Lists the images of the training source, and of the validation source if there is one.

    Args:
        settings: They name the sources.
        mirror: Where DIV2K's archives or images are, instead of the official site.

    Raises:
        UserError: As `open_source` and `open_div2k`.
    """
    if mirror and DIV2K not in (settings.source, settings.valid_source):
        raise UserError(f"--mirror goes with --source {DIV2K}")

    def opened(uri: str, split: Literal["train", "valid"], lr_uri: str | None) -> Source:
        if uri == DIV2K:
            return open_div2k(split, settings, mirror)
        return open_source(uri, split, lr_uri=lr_uri, scale=settings.scale)

    train = opened(settings.source, "train", settings.lr_source)
    if settings.valid_source is None:
        return train, None
    return train, opened(settings.valid_source, "valid", settings.valid_lr_source)


def origins(record: PartRecord) -> Sequence[OriginRecord]:
    """The records of a part's images."""
    return record.images if isinstance(record, ShardRecord) else (record,)


def originals(source: Source, image: SourceImage, origin: OriginRecord) -> Iterator[Original]:
    """The files of an image: HR, and LR where both the source and the data set have one."""
    yield Original(image.name, source.storage, image.hr, origin.source)
    if image.lr and source.lr_storage and origin.lr_source:
        yield Original(image.name, source.lr_storage, image.lr, origin.lr_source)


def replaced(files: Iterable[Original]) -> list[Original]:
    """Reads files; returns those whose content is another one now."""
    files = list(files)
    same = in_threads(
        lambda one: sha256_hex(one.storage.read(one.file.key)) == one.known.sha256, files
    )
    return [one for one, is_same in zip(files, same, strict=True) if not is_same]


class Comparison(NamedTuple):
    """A data set against its sources: a line for every difference, and what was compared."""

    differences: list[str]
    compared: str


def compare_sources(manifest: Manifest, sources: Sequence[Source | None]) -> Comparison:
    """Compares every file of the sources with the data set that was made of them.

    Args:
        manifest: The data set's.
        sources: The training and the validation source.
    """
    lines: list[str] = []
    files: list[Original] = []
    num_hr = num_lr = 0
    made = ([origin for shard in manifest.shards for origin in shard.images], manifest.valid)
    for source, split in zip(sources, made, strict=True):
        if source is None:
            continue
        known: dict[str, OriginRecord] = {origin.name: origin for origin in split}
        for image in source.images:
            if origin := known.pop(image.name, None):
                files += originals(source, image, origin)
                num_hr += 1
                num_lr += origin.lr_source is not None
            else:
                lines.append(f"{source.storage.uri}/{image.hr.key}: is not in the data set")
        lines += [f"{source.storage.uri}: no longer holds {name}" for name in known]
    lines += [
        f"{one.storage.uri}/{one.file.key}: is not the file that the data set was made of"
        for one in replaced(files)
    ]
    compared_lr = len(files) - num_hr
    compared = f"{num_hr} HR and {compared_lr} LR files are what the data set was made of"
    if left := num_lr - compared_lr:
        compared += f"; {left} LR files were not compared: pass --lr-source or --valid-lr-source"
    return Comparison(lines, compared)
