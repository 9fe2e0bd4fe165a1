"""Photographs -> a data set: a Ray task per shard and per validation image, the manifest last.

Every task leaves a record under `progress/` once its objects are whole. A killed run, started
again, keeps what has a matching record; when all is done the records become the manifest. Which
image goes into which shard depends on the source's listing alone, so the bytes do not depend on
the number of workers or the order in which they finish.
"""

import logging
from collections.abc import Sequence

from data_pipeline.manifest import (
    FORMAT_VERSION,
    MANIFEST_KEY,
    DataSettings,
    Manifest,
    PartRecord,
    ShardRecord,
    ValidRecord,
)
from data_pipeline.platform.errors import JobFailedError, UserError
from data_pipeline.platform.fanout import TaskFailedError, fan_out
from data_pipeline.platform.storage import ReadableStorage, Storage, open_storage
from data_pipeline.platform.storage.archive import ZipStorage
from data_pipeline.platform.storage.memory import MemoryStorage
from data_pipeline.prepare.div2k import open_div2k
from data_pipeline.prepare.parts import Part, build_part
from data_pipeline.prepare.resume import (
    Stored,
    begin,
    clean_up,
    finished_records,
    is_complete,
    matching_manifest,
    require_finished,
)
from data_pipeline.prepare.sources import DIV2K, SAMPLES, Source, SourceImage, open_source

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
    tasks = _plan(*_open_sources(settings, mirror))
    stored: Stored = {found.key: found.size for found in storage.list()}
    manifest = matching_manifest(storage, stored, settings, tasks)
    if manifest and is_complete(manifest, stored):
        _log.info("%s: already complete, nothing to do", storage.uri)
        clean_up(storage)  # a kill may have come after the manifest
        return manifest
    stored = begin(storage, stored, settings)
    records = finished_records(storage, stored, tasks, manifest)
    if records:
        _log.info("%s: %d of %d parts are done already", storage.uri, len(records), len(tasks))
    _build([task for task in tasks if task.name not in records], settings, storage, records)
    built = [records[task.name] for task in tasks]
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        settings=settings,
        shards=tuple(record for record in built if isinstance(record, ShardRecord)),
        valid=tuple(record for record in built if isinstance(record, ValidRecord)),
    )
    _refuse_leaks(manifest)
    _delete_leftovers(storage, manifest)
    require_finished(storage, settings, manifest)
    _commit(storage, manifest)
    clean_up(storage)
    return manifest


def _check_settings(settings: DataSettings) -> None:
    if settings.scale < 2:
        raise UserError(f"--scale {settings.scale}: must be 2 or more")
    for option, value in (
        ("--patch-size", settings.patch_size),
        ("--stride", settings.stride),
    ):
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
    for source in (
        settings.source,
        settings.valid_source,
        settings.lr_source,
        settings.valid_lr_source,
    ):
        if source in (None, SAMPLES, DIV2K):
            continue
        out, folder = f"{storage.uri}/", f"{source}/"
        if out.startswith(folder) or folder.startswith(out):
            raise UserError(
                f"--out {storage.uri}: lies within {source} or the other way round; "
                "choose a folder beside it"
            )


def _open_sources(settings: DataSettings, mirror: str | None) -> tuple[Source, Source | None]:
    if mirror and DIV2K not in (settings.source, settings.valid_source):
        raise UserError(f"--mirror goes with --source {DIV2K}")
    scale = settings.scale
    train = (
        open_div2k("train", settings, mirror)
        if settings.source == DIV2K
        else open_source(settings.source, "train", lr_uri=settings.lr_source, scale=scale)
    )
    if settings.valid_source is None:
        return train, None
    valid = (
        open_div2k("valid", settings, mirror)
        if settings.valid_source == DIV2K
        else open_source(
            settings.valid_source, "valid", lr_uri=settings.valid_lr_source, scale=scale
        )
    )
    return train, valid


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
    tasks = [
        Part(f"train/{number:05}", train._replace(images=tuple(group)), True)
        for number, group in enumerate(groups)
    ]
    if valid:
        tasks += [
            Part(f"valid/{image.name}", valid._replace(images=(image,)), False)
            for image in valid.images
        ]
    return tasks


def _build(
    tasks: Sequence[Part],
    settings: DataSettings,
    storage: Storage,
    records: dict[str, PartRecord],
) -> None:
    """Builds parts on Ray and adds their records; raises the first error after all were tried."""
    problems: list[str] = []
    failures: list[str] = []
    arguments = ((_portable_part(task), settings, storage) for task in tasks)
    outcomes = fan_out(build_part, arguments, total=len(tasks), label="prepare", unit="parts")
    for task, outcome in zip(tasks, outcomes, strict=True):
        if isinstance(outcome, TaskFailedError):
            images = ", ".join(image.hr.key for image in task.source.images)
            failures.append(f"{storage.uri}/{task.name} (from {images}): {outcome}")
        elif isinstance(outcome, UserError):
            problems.append(str(outcome))
        elif outcome.record:
            records[task.name] = outcome.record
        else:
            problems.extend(outcome.problems)
    for line in (*problems, *failures)[1:]:
        _log.error("%s", line)
    more = len(problems) + len(failures) - 1
    suffix = f" (and {more} more)" if more > 0 else ""
    if problems:
        raise UserError(f"{problems[0]}{suffix}; fix that and run it again")
    if failures:
        raise JobFailedError(f"{failures[0]}{suffix}; the same command goes on")


def _portable_part(task: Part) -> Part:
    """What a worker needs: the task with its images' bytes if they lie in this node's archives."""
    source = task.source
    hr_keys = [image.hr.key for image in source.images]
    lr_keys = [image.lr.key for image in source.images if image.lr]
    portable = source._replace(
        storage=_portable(source.storage, hr_keys),
        lr_storage=source.lr_storage and _portable(source.lr_storage, lr_keys),
    )
    return task._replace(source=portable)


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


def _delete_leftovers(storage: Storage, manifest: Manifest) -> None:
    """Removes what an earlier attempt with other images left behind."""
    for found in (*storage.list("train/"), *storage.list("valid/")):
        if found.key not in manifest.paths:
            storage.delete(found.key)


def _commit(storage: Storage, manifest: Manifest) -> None:
    """Writes the manifest, unless it is there; another one is never replaced."""
    data = manifest.to_json()
    try:
        storage.write_new(MANIFEST_KEY, data)
    except FileExistsError as error:
        if storage.read(MANIFEST_KEY) != data:
            raise UserError(
                f"{storage.uri}/{MANIFEST_KEY}: does not describe what the source's images give "
                "now; choose another --out"
            ) from error
