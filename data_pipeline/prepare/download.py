"""One file of a web server -> a verified local file.

`<target>` appears when it is whole and its checksum is right; `<target>.json` records the checksum
and outlives it. Until then `<target>.partial` grows, and `<target>.partial.json` says of which
remote file it is the beginning. The process at work holds `<target>.lock`.
"""

import errno
import fcntl
import hashlib
import logging
import os
import random
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ValidationError

from data_pipeline.platform.errors import JobFailedError, UserError
from data_pipeline.platform.progress import BYTES, Progress, data_size
from data_pipeline.platform.storage.local import LocalStorage
from data_pipeline.prepare.web import (
    ANOTHER_MIRROR,
    Body,
    RemoteChangedError,
    RemoteFile,
    TryAgainError,
    get,
    require_address,
)

_ATTEMPTS = 8  # in a row that bring nothing new
_FIRST_WAIT_SECONDS = 1.0
_LONGEST_WAIT_SECONDS = 30.0
_BLOCK = 1 << 20

_log = logging.getLogger(__name__)


class _Record(BaseModel):
    """`<target>.json`: what was downloaded from where."""

    url: str
    bytes: int
    sha256: str


class _Wanted(NamedTuple):
    """What is known of the file beforehand, and the fix where another is found."""

    size: int | None
    sha256: str | None
    fix: str


def download(url: str, target: Path, *, size: int | None = None, sha256: str | None = None) -> str:
    """Downloads a file once; goes on where an earlier call was cut off or killed.

    A finished target is not asked for again, and is read again only where its record is missing
    or does not fit. Of several processes that want one target, one downloads it.

    Args:
        url: Its http or https address.
        target: Where it goes; the folder is made if need be.
        size: Its bytes, if known.
        sha256: Its checksum in hex, if known. Else the first download records it, and every later
            one must have the same.

    Returns:
        Its sha256 in hex.

    Raises:
        UserError: If the address is wrong, the server refuses it, the file is not the expected
            one, or the target cannot be written.
        JobFailedError: If the server keeps failing or the disk is full; what has come is kept.
    """
    require_address(url)
    try:
        if found := _recorded(target, sha256):
            return found
        target.parent.mkdir(parents=True, exist_ok=True)
        with _lock(target):
            return _recorded(target, sha256) or _complete(url, target, size, sha256)
    except OSError as error:
        raise UserError(f"{target}: {error.strerror}; choose another place") from error


def _recorded(target: Path, sha256: str | None) -> str | None:
    """The checksum of a finished target as its record has it, or None where they do not fit."""
    record = _read_record(target)
    if record is None or not target.is_file() or _size(target) != record.bytes:
        return None
    return record.sha256 if sha256 in (None, record.sha256) else None


def _complete(url: str, target: Path, size: int | None, sha256: str | None) -> str:
    """Downloads the target unless it is there, verifies and records it; returns its sha256."""
    wanted = _Wanted(size, sha256, f"run the same command again or {ANOTHER_MIRROR}")
    record = _read_record(target)
    if record and sha256 is None:
        fix = f"delete {_beside(target, '.json')} if the publisher really changed the file"
        wanted = _Wanted(record.bytes if size is None else size, record.sha256, fix)
    if target.exists():  # put there by hand, or killed before it was recorded
        found = _verify(target, wanted._replace(fix="delete it and run the same command again"))
    else:
        partial = _beside(target, ".partial")
        _fetch(url, partial, wanted)
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        try:
            found = _verify(partial, wanted)
        except UserError:
            _discard(partial)  # else every call would find the same
            raise
        partial.replace(target)
        _discard(partial)
    _write_json(_beside(target, ".json"), _Record(url=url, bytes=_size(target), sha256=found))
    return found


def _verify(path: Path, wanted: _Wanted) -> str:
    _require_size(str(path), _size(path), wanted)
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    found = digest.hexdigest()
    if wanted.sha256 not in (None, found):
        raise UserError(f"{path}: expected sha256 {wanted.sha256}, found {found}; {wanted.fix}")
    return found


def _require_size(name: str, found: int, wanted: _Wanted) -> None:
    if wanted.size not in (None, found):
        raise UserError(f"{name}: expected {wanted.size} bytes, found {found}; {wanted.fix}")


def _fetch(url: str, partial: Path, wanted: _Wanted) -> None:
    """Asks until the partial file is whole."""
    most, attempts = _kept(partial, url), 0
    while True:
        try:
            return _ask(url, partial, wanted)
        except TryAgainError as error:
            if isinstance(error, RemoteChangedError):
                _discard(partial)
            failure = error
        kept = _kept(partial, url)
        attempts = 0 if kept > most else attempts + 1  # bytes that come again are no progress
        most = max(most, kept)
        if attempts == _ATTEMPTS:
            raise JobFailedError(
                f"{url}: {failure}; {attempts} attempts brought nothing new; {data_size(kept)} are "
                "kept, the same command goes on"
            ) from failure
        backoff = min(_FIRST_WAIT_SECONDS * 2**attempts, _LONGEST_WAIT_SECONDS)
        wait = max(failure.wait, backoff * random.uniform(0.5, 1))  # noqa: S311  no secret
        _log.warning(
            "%s: %s; goes on after %s in %.0f s", partial.stem, failure, data_size(kept), wait
        )
        time.sleep(wait)


def _ask(url: str, partial: Path, wanted: _Wanted) -> None:
    """Sends one request for what the partial file lacks and appends what comes."""
    begun, done = _read_begun(partial, url), _kept(partial, url)
    if begun and done == begun.bytes:  # killed after the last byte
        return
    with get(url, begun, done, wanted.size) as body:
        _require_size(url, body.remote.bytes, wanted)
        if body.start == 0:
            # In this order: a kill in between must not leave old bytes under the new name.
            partial.open("wb").close()
            _write_json(_beside(partial, ".json"), body.remote)
        _receive(body, partial)


def _receive(body: Body, partial: Path) -> None:
    done, total = body.start, body.remote.bytes
    free = shutil.disk_usage(partial.parent).free
    if free < total - done:
        raise _disk_full(partial, total - done)
    try:
        with partial.open("ab") as file, Progress(partial.stem, total, BYTES, done) as progress:
            for block in body.blocks:
                file.write(block)
                done += len(block)
                progress.advance(len(block))
                if done > total:  # the last check refuses it; do not fill the disk before
                    break
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _disk_full(partial, total - done) from error
        raise
    if done < total:
        raise TryAgainError("the server stopped early")


def _disk_full(partial: Path, needed: int) -> JobFailedError:
    free = shutil.disk_usage(partial.parent).free
    return JobFailedError(
        f"{partial}: the disk is full: {data_size(needed)} more are needed, {data_size(free)} are "
        "free; make room, the same command goes on"
    )


@contextmanager
def _lock(target: Path) -> Iterator[None]:
    """The kernel drops it when the process dies."""
    with _beside(target, ".lock").open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _log.info("%s: another process is downloading it; waiting for that", target)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _kept(partial: Path, url: str) -> int:
    """Bytes of the partial file that a request can go on after."""
    return _size(partial) if _read_begun(partial, url) else 0


def _read_begun(partial: Path, url: str) -> RemoteFile | None:
    """Which remote file the partial one is the beginning of; None if not of this URL's."""
    try:
        begun = RemoteFile.model_validate_json(_beside(partial, ".json").read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
    fits = begun.url == url and partial.is_file() and _size(partial) <= begun.bytes
    return begun if fits else None


def _read_record(target: Path) -> _Record | None:
    path = _beside(target, ".json")
    try:
        return _Record.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise UserError(f"{path}: does not read; delete it and run it again") from error


def _write_json(path: Path, content: BaseModel) -> None:
    LocalStorage(path.parent).write(path.name, content.model_dump_json().encode() + b"\n")


def _discard(partial: Path) -> None:
    partial.unlink(missing_ok=True)
    _beside(partial, ".json").unlink(missing_ok=True)
