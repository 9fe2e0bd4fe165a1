"""Checks every byte of a data set, and of its sources, against its manifest."""

import logging
from collections.abc import Mapping, Sequence

from data_pipeline.manifest import (
    MANIFEST_KEY,
    Manifest,
    PartRecord,
    require_manifest,
    stored_files,
)
from data_pipeline.platform.errors import JobFailedError, UserError
from data_pipeline.platform.hashing import stream_sha256
from data_pipeline.platform.storage import Storage, open_storage
from data_pipeline.prepare.originals import compare_sources, open_sources

_log = logging.getLogger(__name__)


def verify_sources(data_uri: str, sources: Mapping[str, str], *, mirror: str | None = None) -> str:
    """Reads all files of a data set's sources, and compares them with its manifest.

    Args:
        data_uri: DATA.
        sources: Where the sources lie now, by the names of DataSettings; those that are not named
            lie where the manifest says.
        mirror: Where DIV2K's archives or images are, instead of the official site.

    Returns:
        What was compared, in words.

    Raises:
        UserError: Naming a file that is not what the data set was made of; all are in the log.
    """
    storage = open_storage(data_uri)
    manifest = require_manifest(storage)
    settings = manifest.settings.model_copy(update=dict(sources))
    found = compare_sources(manifest, open_sources(settings, mirror))
    _refuse(
        found.differences,
        f"put back the files that {storage.uri} was made of, or prepare into another --out",
    )
    return found.compared


def verify(data_uri: str) -> Manifest:
    """Reads all files of a data set again, on all cores of the cluster.

    Args:
        data_uri: DATA.

    Returns:
        The manifest, if every file is what it says.

    Raises:
        UserError: Naming what is missing or damaged, what was expected and what was found; all
            findings are in the log.
        JobFailedError: If files could not be read.
    """
    storage = open_storage(data_uri)
    manifest = require_manifest(storage)
    from data_pipeline.platform.fanout import TaskFailedError, fan_out

    records = manifest.records
    arguments = ((storage, record) for record in records)
    results = fan_out(check_part, arguments, total=len(records), label="verify", unit="parts")
    damages: list[str] = []
    failures: list[str] = []
    for record, result in zip(records, results, strict=True):
        if isinstance(result, TaskFailedError):
            failures.append(f"{storage.uri}/{stored_files(record)[0].path}: {result}")
        elif isinstance(result, UserError):
            damages.extend(result.problems)
        else:
            damages.extend(result)
    for found in storage.list():
        if found.key != MANIFEST_KEY and found.key not in manifest.paths:
            _log.warning("%s/%s: is not in the manifest", storage.uri, found.key)
    for line in failures:
        _log.error("%s", line)
    _refuse(
        damages,
        "delete what is damaged and run the same jobs.prepare command again to restore it",
    )
    if failures:
        raise JobFailedError(f"{len(failures)} parts could not be read: {failures[0]}")
    return manifest


def _refuse(findings: Sequence[str], fix: str) -> None:
    """Logs all findings, and raises UserError with the first one, if there is any."""
    for line in findings:
        _log.error("%s", line)
    if findings:
        more = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
        raise UserError(f"{findings[0]}{more}; {fix}")


def check_part(storage: Storage, record: PartRecord) -> list[str]:
    """One line for every file of a part that is not what its record says."""
    damages = []
    for file in stored_files(record):
        try:
            damage = file.damage(*stream_sha256(storage.stream(file.path)))
        except FileNotFoundError:
            damage = "is missing"
        if damage:
            damages.append(f"{storage.uri}/{file.path}: {damage}")
    return damages
