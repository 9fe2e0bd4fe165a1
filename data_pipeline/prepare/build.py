"""Photographs -> a data set: a Ray task per shard and per validation image, the manifest last.

Every task leaves a record under `progress/` once its objects are whole. A build that was killed
and is started again keeps the parts that have a matching record. When all parts are done, the
records become the manifest. Only the source's listing decides which image goes into which shard:
the bytes do not depend on the number of workers or on the order in which they finish.
"""

import logging
import os
from collections.abc import Sequence

from data_pipeline.imresize import SCALES
from data_pipeline.manifest import (
    FORMAT_VERSION,
    DataSettings,
    Manifest,
    ShardRecord,
    ValidRecord,
)
from data_pipeline.platform.errors import JobFailedError, UserError
from data_pipeline.platform.storage import ReadableStorage, Storage, open_storage
from data_pipeline.platform.storage.archive import ZipStorage
from data_pipeline.platform.storage.memory import MemoryStorage
from data_pipeline.prepare.listing import SourceImage
from data_pipeline.prepare.originals import open_sources
from data_pipeline.prepare.parts import Built, Part, build_part
from data_pipeline.prepare.resume import DataFolder
from data_pipeline.prepare.sources import DIV2K, SAMPLES, Source

# Encoded image bytes per shard: about one DIV2K image, some 30 MB of raw patches.
_SHARD_SOURCE_BYTES = 4 << 20

_log = logging.getLogger(__name__)


def prepare(settings: DataSettings, out_uri: str, *, mirror: str | None = None) -> Manifest:
    """Builds a data set, or finishes one that an earlier call began.

    Args:
        settings: What to build.
        out_uri: DATA.
        mirror: Where DIV2K's archives or images are, instead of the official site.

    Returns:
        The manifest. A data set that is complete already is left as it is.

    Raises:
        UserError: If a setting or an image is wrong, or DATA was made with other settings or
            from other images. There is no manifest then; finished parts are kept.
        JobFailedError: If parts failed for another reason; the others are kept.
    """
    _check_settings(settings)
    storage = open_storage(out_uri)
    _refuse_nesting(settings, storage)
    parts = _plan(*open_sources(settings, mirror))
    data = DataFolder(storage, settings, parts)
    if manifest := data.finished():
        _log.info("%s: already complete, nothing to do (%s)", storage.uri, data.compared)
        return manifest
    done = data.begin()
    if done:
        _log.info("%s: %d of %d parts are done already", storage.uri, len(done), len(parts))
    records = [one.record for one in _build(parts, done, settings, storage)]
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        settings=settings,
        shards=tuple(record for record in records if isinstance(record, ShardRecord)),
        valid=tuple(record for record in records if isinstance(record, ValidRecord)),
    )
    _refuse_leaks(manifest)
    data.finish(manifest)
    return manifest


def _check_settings(settings: DataSettings) -> None:
    if settings.scale not in SCALES:
        raise UserError(f"--scale {settings.scale}: must be one of {', '.join(map(str, SCALES))}")
    for option, value in (("--patch-size", settings.patch_size), ("--stride", settings.stride)):
        if value < settings.scale or value % settings.scale:
            raise UserError(f"{option} {value}: must be a multiple of the scale {settings.scale}")
    if settings.valid_lr_source and not settings.valid_source:
        raise UserError("--valid-lr-source goes with --valid-source")
    for option, source, lr_source in (
        ("--lr-source", settings.source, settings.lr_source),
        ("--valid-lr-source", settings.valid_source, settings.valid_lr_source),
    ):
        if lr_source and source == DIV2K:
            raise UserError(f"{option}: {DIV2K} has LR images of its own; leave it out")


def _refuse_nesting(settings: DataSettings, storage: Storage) -> None:
    """DATA's own images must not become a source's."""
    lr_sources = (settings.lr_source, settings.valid_lr_source)
    out = _place(storage.uri)
    for source in (settings.source, settings.valid_source, *lr_sources):
        if source is None or source in (SAMPLES, DIV2K):
            continue
        if out.startswith(_place(source)) or _place(source).startswith(out):
            raise UserError(
                f"--out {storage.uri}: lies within {source} or the other way round; "
                "choose a folder beside it"
            )


def _place(uri: str) -> str:
    """Where a URI leads to, without links, with a slash at its end."""
    return f"{uri if '://' in uri else os.path.realpath(uri)}/"


def _plan(train: Source, valid: Source | None) -> list[Part]:
    """Groups consecutive training images into shards by their encoded size."""
    groups: list[list[SourceImage]] = []
    room = 0
    for image in train.images:
        if room <= 0:
            groups.append([])
            room = _SHARD_SOURCE_BYTES
        groups[-1].append(image)
        room -= image.hr.size
    parts = [
        Part(f"train/{number:05}", train._replace(images=tuple(group)), True)
        for number, group in enumerate(groups)
    ]
    if valid:
        parts += [
            Part(f"valid/{image.name}", valid._replace(images=(image,)), False)
            for image in valid.images
        ]
    return parts


def _build(
    parts: Sequence[Part], done: dict[str, Built], settings: DataSettings, storage: Storage
) -> list[Built]:
    """Builds the parts that are not done yet on Ray; tells the doubts about all of them.

    Returns:
        All parts, in order.

    Raises:
        UserError, JobFailedError: The first error after all were tried.
    """
    from data_pipeline.platform.fanout import TaskFailedError, fan_out

    left = [part for part in parts if part.name not in done]
    arguments = ((_portable_part(part), settings, storage) for part in left)
    results = fan_out(build_part, arguments, total=len(left), label="prepare", unit="parts")
    found = {**done, **dict(zip((part.name for part in left), results, strict=True))}
    built: list[Built] = []
    problems: list[str] = []
    failures: list[str] = []
    for part in parts:
        result = found[part.name]
        if isinstance(result, UserError):
            problems.extend(result.problems)
        elif isinstance(result, TaskFailedError):
            images = ", ".join(image.hr.key for image in part.source.images)
            failures.append(f"{storage.uri}/{part.name} (from {images}): {result}")
        else:
            built.append(result)
    doubts = [doubt for one in built for doubt in one.doubts]
    for doubt in doubts:
        _log.warning("%s", doubt)
    if doubts:
        _log.warning(
            "%d LR file(s) may not be of their HR image; look at them with --describe", len(doubts)
        )
    for line in (*problems, *failures)[1:]:
        _log.error("%s", line)
    more = len(problems) + len(failures) - 1
    suffix = f" (and {more} more)" if more > 0 else ""
    if problems:
        raise UserError(f"{problems[0]}{suffix}; fix that and run it again")
    if failures:
        raise JobFailedError(f"{failures[0]}{suffix}; run it again to go on")
    return built


def _portable_part(part: Part) -> Part:
    """The part as a worker can read it: images in this node's archives travel as bytes."""
    source = part.source
    hr_keys = [image.hr.key for image in source.images]
    lr_keys = [image.lr.key for image in source.images if image.lr]
    portable = source._replace(
        storage=_portable(source.storage, hr_keys),
        lr_storage=source.lr_storage and _portable(source.lr_storage, lr_keys),
    )
    return part._replace(source=portable)


def _portable(storage: ReadableStorage, keys: list[str]) -> ReadableStorage:
    return MemoryStorage(storage, keys) if isinstance(storage, ZipStorage) else storage


def _refuse_leaks(manifest: Manifest) -> None:
    """No validation image may be trained on."""
    trained = {
        image.source.sha256: image.name for shard in manifest.shards for image in shard.images
    }
    for record in manifest.valid:
        if record.source.sha256 in trained:
            raise UserError(
                f"{record.name}: the validation image is the training image "
                f"{trained[record.source.sha256]}; remove it from one of the sources"
            )
