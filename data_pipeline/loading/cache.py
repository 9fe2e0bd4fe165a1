"""A data set's verified shards on this node: local ones in place, remote ones from a cache.

All processes of a user on the node share the cache. A file in it has its sha256 as name, and
appears there whole and verified. A process that maps it holds a shared lock on it as long as the
map lives. Only files without a lock are evicted, the least recently mapped first. None is evicted
from a file system without locks.
"""

import fcntl
import logging
import math
import mmap
import os
import shutil
import socket
from contextlib import ExitStack
from pathlib import Path

from data_pipeline.manifest import ShardRecord
from data_pipeline.platform.errors import JobFailedError, UserError
from data_pipeline.platform.hashing import sha256_hex, stream_sha256
from data_pipeline.platform.node import (
    lock_if_possible,
    node_folder,
    node_lock,
    remove_unlocked,
    scratch_file,
)
from data_pipeline.platform.progress import data_size
from data_pipeline.platform.storage import LocalStorage, Storage

LIMIT_VARIABLE = "SRGAN_CACHE_GB"

# The part of the disk that stays free if there is no limit.
_SPARED = 0.1

_PARTIAL_SUFFIX = ".shard"

_log = logging.getLogger(__name__)


class DamagedShardError(JobFailedError):
    """A shard that is missing or is not what the manifest says."""


def map_shard(storage: Storage, shard: ShardRecord) -> mmap.mmap:
    """Checks every byte of a shard against the manifest and maps its content.

    A remote shard is checked once, while it is copied into the node's cache. Processes that need
    the same shard at the same time share one download.

    Raises:
        DamagedShardError: Naming the shard, what was expected and what was found.
    """
    if isinstance(storage, LocalStorage):
        return _map_in_place(storage, shard)
    folder = node_folder("shards")
    path = folder / shard.sha256
    while True:
        mapped = _map_held(path, shard.bytes)
        if mapped is not None:
            return mapped
        with node_lock(f"shard-{shard.sha256[:2]}"):  # 256 lock files at most
            if not path.exists():
                return _fetch(storage, shard, path)


def cache_limit() -> int:
    """Bytes that the cache may take: $SRGAN_CACHE_GB, else all but a tenth of the disk.

    Raises:
        UserError: If the variable is no positive number.
    """
    text = os.environ.get(LIMIT_VARIABLE)
    if not text:
        disk = shutil.disk_usage(node_folder("shards"))
        return max(0, sum(_cached_sizes().values()) + disk.free - int(_SPARED * disk.total))
    try:
        limit = float(text)
    except ValueError:
        limit = 0.0
    if not 0 < limit < math.inf:
        raise UserError(f"{LIMIT_VARIABLE}={text}: pass the cache's size in gigabytes, as in 500")
    return int(limit * 1e9)


def _map_in_place(storage: LocalStorage, shard: ShardRecord) -> mmap.mmap:
    where = f"{storage.uri}/{shard.path}"
    size = storage.size(shard.path)
    if size is None:
        raise _missing(where)
    if size != shard.bytes:
        raise _damaged(where, shard.damage("", size))
    with storage.path(shard.path).open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    if damage := shard.damage(sha256_hex(mapped), len(mapped)):
        raise _damaged(where, damage)
    return mapped


def _map_held(path: Path, size: int) -> mmap.mmap | None:
    """Maps a file of the cache and locks it against eviction; None if there is none so large."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        if os.fstat(handle).st_size != size:  # a crash of the machine lost its end
            path.unlink(missing_ok=True)
            return None
        # The map has a copy of the handle: the lock ends when the map does.
        lock_if_possible(handle, fcntl.LOCK_SH)
        os.utime(handle)
        return mmap.mmap(handle, 0, access=mmap.ACCESS_READ)
    finally:
        os.close(handle)


def _fetch(storage: Storage, shard: ShardRecord, path: Path) -> mmap.mmap:
    where = f"{storage.uri}/{shard.path}"
    with ExitStack() as stack:
        with scratch_file(shard.sha256 + _PARTIAL_SUFFIX) as partial:
            with node_lock("eviction"):
                _make_room(shard.bytes)
                os.truncate(partial, shard.bytes)  # other processes count it from now on
            try:
                with partial.open("r+b") as file:
                    found = stream_sha256(storage.stream(shard.path), copy=file)
                    file.flush()
                    os.fsync(file.fileno())
            except FileNotFoundError as error:
                raise _missing(where) from error
            except OSError as error:
                raise JobFailedError(
                    f"{where}: cannot be copied to {path.parent} on {socket.gethostname()} "
                    f"({error.strerror or error}); lower {LIMIT_VARIABLE} or make room"
                ) from error
            if damage := shard.damage(*found):
                raise _damaged(where, damage)
            # No process may evict it before this one has mapped it.
            stack.enter_context(node_lock("eviction"))
            partial.replace(path)
        mapped = _map_held(path, shard.bytes)
        assert mapped is not None
        return mapped


def _make_room(size: int) -> None:
    """Evicts files until `size` bytes more fit, or all that are left have readers."""
    sizes = _cached_sizes()
    used, limit = sum(sizes.values()), cache_limit()
    if used + size <= limit:
        return
    for path in sorted(node_folder("shards").iterdir(), key=_mtime):
        if remove_unlocked(path):
            used -= sizes.get(path, 0)
        if used + size <= limit:
            return
    _log.warning(
        "the shard cache is over its limit of %s: readers hold %s, or its file system has no locks",
        data_size(limit),
        data_size(used),
    )


def _cached_sizes() -> dict[Path, int]:
    """Bytes of every cached shard, and of every download in progress."""
    files = [*node_folder("shards").iterdir()]
    files += node_folder("scratch").glob(f"*{_PARTIAL_SUFFIX}")
    sizes = {}
    for path in files:
        try:
            sizes[path] = path.stat().st_size
        except FileNotFoundError:
            continue  # it was moved or removed meanwhile
    return sizes


def _mtime(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _missing(where: str) -> DamagedShardError:
    return DamagedShardError(
        f"{where}: is missing; run the same jobs.prepare command again to restore it"
    )


def _damaged(where: str, damage: str | None) -> DamagedShardError:
    return DamagedShardError(
        f"{where}: {damage}; delete it and run the same jobs.prepare command again"
    )
