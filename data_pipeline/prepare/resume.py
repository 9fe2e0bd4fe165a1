"""What an unfinished or finished DATA already holds, and whether it belongs to this build."""

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

from pydantic import ValidationError

from data_pipeline.manifest import (
    DataSettings,
    Manifest,
    PartRecord,
    ShardRecord,
    SourceFile,
    ValidRecord,
    read_manifest,
    stored_files,
)
from data_pipeline.platform.errors import UserError, differences
from data_pipeline.platform.storage import Storage
from data_pipeline.prepare.parts import PROGRESS, Part
from data_pipeline.prepare.sources import SourceImage

_SETTINGS_KEY = PROGRESS + "settings.json"
_REQUESTS = 16

# An image as a resumed build knows it: its name, its bytes and those of its LR file.
_Input = tuple[str, int, int]

# Bytes of every stored object by key.
Stored = Mapping[str, int]

_log = logging.getLogger(__name__)


def matching_manifest(
    storage: Storage, stored: Stored, settings: DataSettings, tasks: Sequence[Part]
) -> Manifest | None:
    """DATA's manifest, after a check that DATA is of these settings and these images.

    Raises:
        UserError: If it is not, or DATA holds somebody's other files.
    """
    manifest = read_manifest(storage)
    if manifest is None and _SETTINGS_KEY not in stored and stored:
        raise UserError(f"{storage.uri}: holds other files ({min(stored)}); choose another --out")
    has_shards = any(key.startswith(f"{PROGRESS}train/") for key in stored)
    begun = _begun_settings(storage, stored) if has_shards else None
    old = manifest.settings if manifest else begun
    if old:
        _refuse_other_settings(storage, old, settings)
    if manifest:
        made_of = [_inputs(part) for part in manifest.parts]
        now = [_part_inputs(task) for task in tasks]
        if made_of != now:
            changed = sorted({*chain(*made_of)} ^ {*chain(*now)})
            example = f" ({changed[0][0]})" if changed else ""
            raise UserError(
                f"{storage.uri}: the source's images have changed since{example}; "
                "choose another --out"
            )
    return manifest


def begin(storage: Storage, stored: Stored, settings: DataSettings) -> Stored:
    """Notes the settings, and removes what killed writers and other settings left behind.

    Returns:
        What is stored then.

    Raises:
        UserError: If another build begins there at the same moment with other settings.
    """
    storage.delete_partial()
    if _begun_settings(storage, stored) == settings:
        return stored
    data = settings.model_dump_json(indent=1).encode()
    if _SETTINGS_KEY in stored:  # of another build that has no shard: see matching_manifest
        storage.write(_SETTINGS_KEY, data)
    else:
        try:
            storage.write_new(_SETTINGS_KEY, data)
        except FileExistsError:
            _refuse_other_settings(storage, _read_settings(storage), settings)
    _delete_records(storage, keep=_SETTINGS_KEY)
    return {key: size for key, size in stored.items() if not key.startswith(PROGRESS)}


def require_finished(storage: Storage, settings: DataSettings, manifest: Manifest) -> None:
    """Checks, before the manifest is written, that all it names is there and of this build.

    Raises:
        UserError: If workers wrote elsewhere, or another command took DATA over meanwhile.
    """
    stored = {found.key: found.size for found in storage.list()}
    if _SETTINGS_KEY in stored:  # else a command with the same settings has finished it
        _refuse_other_settings(storage, _read_settings(storage), settings)
    if not is_complete(manifest, stored):
        raise UserError(
            f"{storage.uri}: what the workers wrote is not there; on a cluster pass a folder that "
            "all nodes share, or s3://"
        )


def is_complete(manifest: Manifest, stored: Stored) -> bool:
    """Whether every file of a manifest is stored with its size."""
    return all(_is_stored(part, stored) for part in manifest.parts)


def finished_records(
    storage: Storage, stored: Stored, tasks: Sequence[Part], manifest: Manifest | None
) -> dict[str, PartRecord]:
    """Records of the tasks that need not run again, by task name."""
    if manifest:
        records: list[PartRecord | None] = [*manifest.parts]
    else:
        with ThreadPoolExecutor(_REQUESTS) as pool:
            records = list(pool.map(lambda task: _progress_record(storage, stored, task), tasks))
    return {
        task.name: record
        for task, record in zip(tasks, records, strict=True)
        if record and _inputs(record) == _part_inputs(task) and _is_stored(record, stored)
    }


def clean_up(storage: Storage) -> None:
    """Removes what a finished data set needs no more."""
    storage.delete_partial()
    _delete_records(storage)


def _delete_records(storage: Storage, *, keep: str | None = None) -> None:
    keys = [found.key for found in storage.list(PROGRESS) if found.key != keep]
    with ThreadPoolExecutor(_REQUESTS) as pool:
        list(pool.map(storage.delete, keys))


def _refuse_other_settings(storage: Storage, old: DataSettings, new: DataSettings) -> None:
    if old != new:
        changes = "; ".join(differences(old.model_dump(), new.model_dump()))
        raise UserError(
            f"{storage.uri}: was made with other settings ({changes}); choose another --out"
        )


def _begun_settings(storage: Storage, stored: Stored) -> DataSettings | None:
    return _read_settings(storage) if _SETTINGS_KEY in stored else None


def _read_settings(storage: Storage) -> DataSettings:
    try:
        return DataSettings.model_validate_json(storage.read(_SETTINGS_KEY))
    except ValidationError as error:
        raise UserError(
            f"{storage.uri}/{_SETTINGS_KEY}: is damaged; delete the folder or choose another --out"
        ) from error


def _progress_record(storage: Storage, stored: Stored, task: Part) -> PartRecord | None:
    if task.progress_key not in stored:
        return None
    kind: type[PartRecord] = ShardRecord if task.is_shard else ValidRecord
    try:
        return kind.model_validate_json(storage.read(task.progress_key))
    except ValidationError:
        _log.warning("%s/%s: does not read; made again", storage.uri, task.progress_key)
        return None


def _is_stored(record: PartRecord, stored: Stored) -> bool:
    return all(stored.get(file.path) == file.bytes for file in stored_files(record))


def _inputs(record: PartRecord) -> list[_Input]:
    images = record.images if isinstance(record, ShardRecord) else (record,)
    return [(image.name, image.source.bytes, _bytes(image.lr_source)) for image in images]


def _bytes(file: SourceFile | None) -> int:
    return file.bytes if file else 0


def _part_inputs(task: Part) -> list[_Input]:
    def size(image: SourceImage) -> int:
        return image.lr.size if image.lr else 0

    return [(image.name, image.hr.size, size(image)) for image in task.source.images]
