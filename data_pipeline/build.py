"""Photographs -> a data set: a Ray task per shard and per validation image, the manifest last.

Every task leaves a record under `progress/` once its objects are whole. A killed run, started
again, keeps what has a matching record; when all is done the records become the manifest. Which
image goes into which shard depends on the source's listing alone, so the bytes do not depend on
the number of workers or the order in which they finish.
"""

import logging
from collections.abc import Sequence
from itertools import chain

import ray
from pydantic import ValidationError

from data_pipeline.cluster import ray_session
from data_pipeline.errors import UserError, differences
from data_pipeline.manifest import (
    FORMAT_VERSION,
    MANIFEST_KEY,
    DataSettings,
    Manifest,
    PartRecord,
    ShardRecord,
    ValidRecord,
    read_manifest,
    sha256_hex,
)
from data_pipeline.parts import PROGRESS, Outcome, Task, build_part
from data_pipeline.progress import Progress
from data_pipeline.sources import SAMPLES, Source, SourceImage, open_source
from data_pipeline.storage import Storage, open_storage

# Encoded image bytes per shard: about one DIV2K image, some 30 MB of raw patches.
_SHARD_SOURCE_BYTES = 4 << 20

_SETTINGS_KEY = PROGRESS + "settings.json"

_log = logging.getLogger(__name__)


def prepare(settings: DataSettings, out_uri: str) -> Manifest:
    """Builds a data set, or finishes one that an earlier call began.

    Args:
        settings: What to build.
        out_uri: DATA.

    Returns:
        The manifest. A data set that is complete already is left as it is.

    Raises:
        UserError: If a setting or an image is wrong, or DATA was made with other settings or
            from other images. There is no manifest then; finished parts are kept.
    """
    _check_settings(settings)
    storage = open_storage(out_uri)
    _refuse_nesting(settings, storage)
    train = open_source(settings.source, "train")
    valid = open_source(settings.valid_source, "valid") if settings.valid_source else None
    tasks = _plan(train, valid)
    manifest = _matching_manifest(storage, settings, tasks)
    if manifest and _is_complete(storage, manifest):
        _log.info("%s: already complete, nothing to do", storage.uri)
        return manifest
    if manifest is None and _begun_settings(storage) != settings:
        for found in storage.list(PROGRESS):  # no shard is among them: see _matching_manifest
            storage.delete(found.key)
    storage.write(_SETTINGS_KEY, settings.model_dump_json(indent=1).encode())
    storage.delete_partial()
    records = _finished_records(storage, tasks, manifest)
    open_tasks = [task for task in tasks if task.name not in records]
    if records:
        _log.info("%s: %d of %d parts are done already", storage.uri, len(records), len(tasks))
    problems = _run(open_tasks, settings, storage, records)
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        for problem in problems[1:]:
            _log.error("%s", problem)
        raise UserError(f"{problems[0]}{more}; mend that and run it again")
    built = [records[task.name] for task in tasks]
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        settings=settings,
        shards=tuple(record for record in built if isinstance(record, ShardRecord)),
        valid=tuple(record for record in built if isinstance(record, ValidRecord)),
    )
    _refuse_leaks(manifest)
    _delete_leftovers(storage, manifest)
    storage.write(MANIFEST_KEY, manifest.to_json())
    for found in storage.list(PROGRESS):
        storage.delete(found.key)
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


def _refuse_nesting(settings: DataSettings, storage: Storage) -> None:
    """DATA's own images must not become a source's."""
    for source in (settings.source, settings.valid_source):
        if source in (None, SAMPLES):
            continue
        out, folder = f"{storage.uri}/", f"{source}/"
        if out.startswith(folder) or folder.startswith(out):
            raise UserError(
                f"--out {storage.uri}: lies within {source} or the other way round; "
                "choose a folder beside it"
            )


def _plan(train: Source, valid: Source | None) -> list[Task]:
    """Groups consecutive training images into shards by their encoded size."""
    groups: list[list[SourceImage]] = []
    room = 0
    for image in train.images:
        if room <= 0:
            groups.append([])
            room = _SHARD_SOURCE_BYTES
        groups[-1].append(image)
        room -= image.size
    tasks = [
        Task(f"train/{number:05}", tuple(group), train.storage.uri, True)
        for number, group in enumerate(groups)
    ]
    if valid:
        tasks += [
            Task(f"valid/{image.name}", (image,), valid.storage.uri, False)
            for image in valid.images
        ]
    return tasks


def _inputs(record: PartRecord) -> list[tuple[str, int]]:
    images = record.images if isinstance(record, ShardRecord) else (record,)
    return [(image.name, image.bytes) for image in images]


def _matches(record: PartRecord, task: Task) -> bool:
    return _inputs(record) == [(image.name, image.size) for image in task.images]


def _matching_manifest(
    storage: Storage, settings: DataSettings, tasks: Sequence[Task]
) -> Manifest | None:
    """DATA's manifest, after a check that DATA is of these settings and these images."""
    manifest = read_manifest(storage)
    if manifest is None and storage.size(_SETTINGS_KEY) is None and storage.list():
        raise UserError(
            f"{storage.uri}: holds other files ({storage.list()[0].key}); choose another --out"
        )
    has_shards = bool(storage.list(f"{PROGRESS}train/"))
    begun = _begun_settings(storage) if has_shards else None
    old = manifest.settings if manifest else begun
    if old and old != settings:
        changes = "; ".join(differences(old.model_dump(), settings.model_dump()))
        raise UserError(
            f"{storage.uri}: was made with other settings ({changes}); choose another --out"
        )
    if manifest:
        made_of = [_inputs(part) for part in manifest.parts]
        now = [[(image.name, image.size) for image in task.images] for task in tasks]
        if made_of != now:
            changed = sorted({*chain(*made_of)} ^ {*chain(*now)})
            example = f" ({changed[0][0]})" if changed else ""
            raise UserError(
                f"{storage.uri}: the source's images have changed since{example}; "
                "choose another --out"
            )
    return manifest


def _begun_settings(storage: Storage) -> DataSettings | None:
    if storage.size(_SETTINGS_KEY) is None:
        return None
    try:
        return DataSettings.model_validate_json(storage.read(_SETTINGS_KEY))
    except ValidationError as error:
        raise UserError(
            f"{storage.uri}/{_SETTINGS_KEY}: is damaged; delete the folder or choose another --out"
        ) from error


def _is_complete(storage: Storage, manifest: Manifest) -> bool:
    return all(_is_stored(storage, part) for part in manifest.parts)


def _is_stored(storage: Storage, record: PartRecord) -> bool:
    if isinstance(record, ShardRecord):
        return storage.size(record.path) == record.bytes
    return all(
        storage.size(key) is not None and sha256_hex(storage.read(key)) == expected
        for key, expected in ((record.hr, record.hr_sha256), (record.lr, record.lr_sha256))
    )


def _finished_records(
    storage: Storage, tasks: Sequence[Task], manifest: Manifest | None
) -> dict[str, PartRecord]:
    """Records of the tasks that need not run again, by task name."""
    finished: dict[str, PartRecord] = {}
    built = iter(manifest.parts) if manifest else None
    for task in tasks:
        record = next(built) if built else _progress_record(storage, task)
        if record and _matches(record, task) and _is_stored(storage, record):
            finished[task.name] = record
    return finished


def _progress_record(storage: Storage, task: Task) -> PartRecord | None:
    if storage.size(task.progress_key) is None:
        return None
    kind: type[PartRecord] = ShardRecord if task.is_shard else ValidRecord
    try:
        return kind.model_validate_json(storage.read(task.progress_key))
    except ValidationError:
        _log.warning("%s/%s: does not read; made again", storage.uri, task.progress_key)
        return None


def _run(
    tasks: Sequence[Task],
    settings: DataSettings,
    storage: Storage,
    records: dict[str, PartRecord],
) -> list[str]:
    """Runs tasks on Ray, adds their records, returns the problems in order of tasks."""
    if not tasks:
        return []
    problems: dict[str, tuple[str, ...]] = {}
    with ray_session(), Progress("prepare", len(tasks), "parts") as progress:
        remote = ray.remote(num_cpus=1, max_retries=3)(build_part)
        pending = {remote.remote(task, settings, storage.uri): task for task in tasks}
        while pending:
            done, _ = ray.wait(list(pending))
            task = pending.pop(done[0])
            outcome: Outcome = ray.get(done[0])
            if outcome.record:
                records[task.name] = outcome.record
            else:
                problems[task.name] = outcome.problems
            progress.advance()
    return [problem for name in sorted(problems) for problem in problems[name]]


def _refuse_leaks(manifest: Manifest) -> None:
    """No validation image may be trained on."""
    trained = {image.sha256: image.name for shard in manifest.shards for image in shard.images}
    for record in manifest.valid:
        if record.sha256 in trained:
            raise UserError(
                f"{record.name}: the validation image is the training image "
                f"{trained[record.sha256]}; remove it from one of the sources"
            )


def _delete_leftovers(storage: Storage, manifest: Manifest) -> None:
    """Removes what an earlier attempt with other images left behind."""
    known = {shard.path for shard in manifest.shards}
    known |= {key for record in manifest.valid for key in (record.hr, record.lr)}
    for found in (*storage.list("train/"), *storage.list("valid/")):
        if found.key not in known:
            storage.delete(found.key)
