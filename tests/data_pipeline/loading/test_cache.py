"""Shards of a remote data set on a node: verified, shared by its processes, within a limit."""

import errno
import fcntl
import hashlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from data_pipeline.loading.cache import DamagedShardError, cache_limit, map_shard
from data_pipeline.loading.patch_set import PatchSet, _augment
from data_pipeline.manifest import DataSettings, Manifest, ShardRecord
from data_pipeline.patches import Patch
from data_pipeline.platform.errors import JobFailedError, UserError
from data_pipeline.platform.hashing import file_sha256
from data_pipeline.platform.storage import LocalStorage
from data_pipeline.shards.formats import open_shard, shard_writer

# Readers run this module as their program: it must not import TensorFlow, or tests.conftest.
ROOT = Path(__file__).parents[3]
GLOBAL_BATCH = 4
PATCHES = 8


class FolderStorage:
    """A remote storage that needs no server: serves a folder in blocks, notes every download.

    While `hold` exists, downloads stop after their first block.
    """

    def __init__(self, folder: Path):
        self.uri = f"remote://{folder.name}"
        self.hold = folder.with_suffix(".hold")
        self._folder, self._log = folder, folder.with_suffix(".log")

    def stream(self, key: str) -> Iterator[bytes]:
        with self._log.open("a") as log:
            log.write(f"{key}\n")
        with (self._folder / key).open("rb") as file:
            while block := file.read(4096):
                yield block
                while self.hold.exists():
                    time.sleep(0.005)

    def downloads(self) -> list[str]:
        """Keys in the order in which downloads began, of all processes."""
        return self._log.read_text().split() if self._log.exists() else []


def make_data(folder: Path, shards: int, patches: int = PATCHES) -> Manifest:
    """A data set of noise: shards of one size, patches of 24 px."""
    settings = DataSettings(
        source="noise",
        valid_source=None,
        format="arrow",
        scale=4,
        kernel="matlab",
        patch_size=24,
        stride=24,
    )
    noise = np.random.default_rng(5)
    (folder / "train").mkdir(parents=True)
    records = []
    for number in range(shards):
        path = folder / f"train/{number:05}.arrow"
        with shard_writer("arrow", path, settings.geometry) as writer:
            sides = [side for side in settings.geometry for _ in range(patches)]
            images = [noise.integers(0, 256, (side, side, 3), np.uint8) for side in sides]
            pairs = zip(images[:patches], images[patches:], strict=True)
            writer.write("noise", [Patch(0, 24 * row, *pair) for row, pair in enumerate(pairs)])
        records.append(
            ShardRecord(
                path=f"train/{path.name}",
                bytes=path.stat().st_size,
                sha256=file_sha256(path),
                patches=patches,
                images=(),
            )
        )
    assert len({record.bytes for record in records}) == 1
    return Manifest(format_version=2, settings=settings, shards=tuple(records), valid=())


@pytest.fixture
def cache(monkeypatch, tmp_path) -> Path:
    monkeypatch.setenv("SRGAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SRGAN_CACHE_GB", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def manifest(tmp_path) -> Manifest:
    return make_data(tmp_path / "data", 6)


@pytest.fixture
def shards(manifest) -> tuple[ShardRecord, ...]:
    return manifest.shards


@pytest.fixture
def storage(tmp_path, cache) -> FolderStorage:
    return FolderStorage(tmp_path / "data")


@pytest.fixture
def set_limit(monkeypatch) -> Callable[[float], None]:
    """Sets the cache's limit in bytes."""
    return lambda count: monkeypatch.setenv("SRGAN_CACHE_GB", f"{(count + 0.5) / 1e9:.12f}")


class Reader:
    """A process of its own that maps shards as it is told, and holds them."""

    def __init__(self, folder: Path):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.data_pipeline.loading.test_cache", str(folder)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, shard: ShardRecord) -> None:
        self.process.stdin.write(shard.model_dump_json() + "\n")
        self.process.stdin.flush()

    def answer(self) -> str:
        return self.process.stdout.readline().strip()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


def main(folder: str) -> None:
    """A Reader's program: a shard's record on a line of stdin -> sha256 of what was mapped."""
    storage = FolderStorage(Path(folder))
    held = []
    print("ready", flush=True)
    for line in sys.stdin:
        held.append(map_shard(storage, ShardRecord.model_validate_json(line)))
        print(hashlib.sha256(held[-1]).hexdigest(), flush=True)


@pytest.fixture
def start_readers(tmp_path, storage):
    """Starts processes that are ready to map."""
    readers = []

    def start(count: int) -> list[Reader]:
        new = [Reader(tmp_path / "data") for _ in range(count)]
        readers.extend(new)
        assert [reader.answer() for reader in new] == ["ready"] * count
        return new

    yield start
    for reader in readers:
        if reader.process.poll() is None:
            reader.kill()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 900  # a last guard
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


def hashes(*shards: ShardRecord) -> set[str]:
    return {shard.sha256 for shard in shards}


def use(storage, *shards: ShardRecord) -> None:
    """Maps shards one after the other and holds none; later use has a later time."""
    for shard in shards:
        map_shard(storage, shard)
        time.sleep(0.02)  # file systems' clocks tick every few milliseconds


def is_held(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_threads_share_one_download_of_each_shard(tmp_path, cache, storage, shards):
    begin = threading.Barrier(6)

    def read_all(first: int) -> dict[str, bytes]:
        begin.wait()
        order = shards[first:] + shards[:first]
        return {shard.path: bytes(map_shard(storage, shard)) for shard in order}

    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(read_all, [0, 0, 0, 1, 1, 3]))
    content = {shard.path: (tmp_path / "data" / shard.path).read_bytes() for shard in shards}
    assert found == [content] * 6
    assert sorted(storage.downloads()) == sorted(content)
    assert names(cache / "shards") == hashes(*shards)
    assert names(cache / "scratch") == set()


def test_processes_share_one_download(cache, storage, shards, start_readers):
    readers = start_readers(3)
    storage.hold.touch()
    for reader in readers:
        reader.ask(shards[0])
    wait_until(storage.downloads)
    time.sleep(0.2)  # for the others to arrive
    assert names(cache / "shards") == set()
    storage.hold.unlink()
    assert [reader.answer() for reader in readers] == [shards[0].sha256] * 3
    assert storage.downloads() == [shards[0].path]
    for reader in readers:
        for shard in shards[1:]:
            reader.ask(shard)
    for reader in readers:
        assert [reader.answer() for _ in shards[1:]] == [shard.sha256 for shard in shards[1:]]
    assert sorted(storage.downloads()) == [shard.path for shard in shards]


def test_a_mapped_shard_is_not_evicted_by_another_process(
    cache, storage, shards, start_readers, set_limit, caplog
):
    (reader,) = start_readers(1)
    reader.ask(shards[0])
    assert reader.answer() == shards[0].sha256
    set_limit(1)
    use(storage, *shards[1:4])
    assert names(cache / "shards") == hashes(shards[0], shards[3])
    assert "over its limit" in caplog.text
    reader.ask(shards[0])
    assert reader.answer() == shards[0].sha256
    assert storage.downloads().count(shards[0].path) == 1


def test_a_killed_process_holds_nothing(cache, storage, shards, start_readers, set_limit):
    (reader,) = start_readers(1)
    reader.ask(shards[0])
    assert reader.answer() == shards[0].sha256
    assert is_held(cache / "shards" / shards[0].sha256)
    reader.kill()
    set_limit(shards[0].bytes)
    use(storage, shards[1])
    assert names(cache / "shards") == hashes(shards[1])


def test_the_least_recently_mapped_goes_first(cache, storage, shards, set_limit):
    a, b, c, d, e, _ = shards
    set_limit(3 * a.bytes)
    use(storage, a, b, c, a, d)
    assert names(cache / "shards") == hashes(a, c, d)
    use(storage, e)
    assert names(cache / "shards") == hashes(a, d, e)
    assert len(storage.downloads()) == 5
    use(storage, b)
    assert names(cache / "shards") == hashes(b, d, e)


def test_the_limit_counts_downloads_in_progress(cache, storage, shards, start_readers, set_limit):
    size = shards[0].bytes
    set_limit(3 * size)
    readers = start_readers(2)
    use(storage, *shards[:3])
    storage.hold.touch()
    for count, (reader, shard) in enumerate(zip(readers, shards[3:], strict=False), 1):
        reader.ask(shard)
        wait_until(lambda count=count: len(storage.downloads()) == 3 + count)
        assert names(cache / "shards") == hashes(*shards[count:3])
        assert [path.stat().st_size for path in (cache / "scratch").iterdir()] == [size] * count
    storage.hold.unlink()
    assert [reader.answer() for reader in readers] == [shards[3].sha256, shards[4].sha256]
    assert names(cache / "shards") == hashes(*shards[2:5])


def test_a_view_of_a_patch_holds_its_shard(cache, storage, manifest):
    shard = manifest.shards[0]
    reader = open_shard("arrow", map_shard(storage, shard), manifest.settings.geometry, ())
    hr, lr = reader.pair(3)
    kept = hr.copy()
    del reader, lr
    path = cache / "shards" / shard.sha256
    assert is_held(path)
    np.testing.assert_array_equal(hr, kept)
    del hr
    assert not is_held(path)


def test_a_download_that_is_killed_leaves_nothing_that_counts(
    cache, storage, shards, start_readers
):
    (reader,) = start_readers(1)
    storage.hold.touch()
    reader.ask(shards[0])
    wait_until(storage.downloads)
    reader.kill()
    storage.hold.unlink()
    assert names(cache / "shards") == set()
    (left,) = names(cache / "scratch")
    use(storage, shards[1])
    assert left not in names(cache / "scratch")
    assert hashlib.sha256(map_shard(storage, shards[0])).hexdigest() == shards[0].sha256
    assert storage.downloads() == [shards[0].path, shards[1].path, shards[0].path]


@pytest.mark.parametrize("length", [0, 1000, -1])
def test_a_file_that_lost_its_end_is_fetched_again(cache, storage, shards, length):
    use(storage, shards[0])
    path = cache / "shards" / shards[0].sha256
    content = path.read_bytes()
    path.write_bytes(content[:length])
    assert bytes(map_shard(storage, shards[0])) == content
    assert storage.downloads() == [shards[0].path] * 2


def flip(content: bytes) -> bytes:
    return content[:500] + bytes([content[500] ^ 1]) + content[501:]


@pytest.mark.parametrize("damage", [flip, lambda data: data[:-1], lambda data: data + b"0"])
def test_a_damaged_object_is_named_and_not_kept(tmp_path, cache, storage, shards, damage):
    path = tmp_path / "data" / shards[0].path
    content = damage(path.read_bytes())
    path.write_bytes(content)
    with pytest.raises(DamagedShardError) as error:
        map_shard(storage, shards[0])
    found = f"sha256 {shards[0].sha256}, found {hashlib.sha256(content).hexdigest()}"
    if len(content) != shards[0].bytes:
        found = f"{shards[0].bytes} bytes, found {len(content)}"
    assert str(error.value).startswith(f"remote://data/train/00000.arrow: expected {found}; ")
    assert names(cache / "shards") == names(cache / "scratch") == set()


def test_a_missing_object_is_named(tmp_path, cache, storage, shards):
    (tmp_path / "data" / shards[0].path).unlink()
    with pytest.raises(DamagedShardError, match=r"^remote://data/train/00000\.arrow: is missing"):
        map_shard(storage, shards[0])
    assert names(cache / "shards") == names(cache / "scratch") == set()


def test_local_shards_are_mapped_in_place(tmp_path, cache, manifest):
    patches = PatchSet(LocalStorage(tmp_path / "data"), manifest)
    assert len([patches.pair(number) for number in range(len(patches))]) == 6 * PATCHES
    for shard in manifest.shards:
        assert str(tmp_path / "data" / shard.path) in Path("/proc/self/maps").read_text()
    assert not [path for path in cache.rglob("*") if path.is_file()]


@pytest.mark.parametrize("text", ["abc", "0", "-1", "nan", "inf"])
def test_a_limit_that_is_no_size_is_refused(monkeypatch, storage, manifest, text):
    monkeypatch.setenv("SRGAN_CACHE_GB", text)
    with pytest.raises(UserError, match=f"^SRGAN_CACHE_GB={text}: pass the cache's size in giga"):
        PatchSet(storage, manifest)


def test_without_a_limit_a_tenth_of_the_disk_stays_free(cache):
    disk = os.statvfs(cache.parent)
    total, free = disk.f_blocks * disk.f_frsize, disk.f_bavail * disk.f_frsize
    assert cache_limit() == pytest.approx(max(0, free - total / 10), abs=total / 100)


def test_a_cache_that_cannot_be_made_is_refused(cache, storage, shards):
    cache.write_text("a file")  # not a read-only folder: root may write to those
    with pytest.raises(UserError, match=r"cache/shards: cannot be made .*set SRGAN_CACHE to a"):
        map_shard(storage, shards[0])


def test_a_full_disk_of_a_node_is_named(cache, storage, shards, monkeypatch):
    def fail(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    text = f"cannot be copied to {cache}/shards on {socket.gethostname()} (No space left on device)"
    with pytest.raises(JobFailedError, match=re.escape(text)):
        map_shard(storage, shards[0])


def make_batches(storage, manifest: Manifest, shuffle_shards: int | None = None):
    from data_pipeline.loading.dataset import Batches  # not at the top: see ROOT

    return Batches(
        PatchSet(storage, manifest),
        manifest,
        seed=3,
        global_batch=GLOBAL_BATCH,
        hr_crop=16,
        shuffle_shards=shuffle_shards,
    )


def elements(batches, start: int, stop: int) -> list[tuple[np.ndarray, np.ndarray]]:
    dataset = batches.dataset(start=start, stop=stop, replicas=[0], num_replicas=1)
    return list(dataset.as_numpy_iterator())


def assert_same(found, expected) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        for name, image, wanted in zip(("LR", "HR"), one, other, strict=True):
            np.testing.assert_array_equal(image, wanted, err_msg=name)


def test_shards_are_opened_ahead_in_their_order_of_use(monkeypatch, storage, manifest):
    monkeypatch.setattr("data_pipeline.loading.patch_set._DOWNLOADS", 1)
    batches = make_batches(storage, manifest, shuffle_shards=None)
    steps = 6 * PATCHES // GLOBAL_BATCH
    dataset = batches.dataset(start=0, stop=steps, replicas=[0], num_replicas=1)
    iterator = iter(dataset)
    next(iterator)
    wait_until(lambda: len(storage.downloads()) == 6)
    ids = np.concatenate([batches.plan(step).patch_ids for step in range(steps)])
    expected = [manifest.shards[number].path for number in dict.fromkeys((ids // PATCHES).tolist())]
    assert storage.downloads() == expected
    assert expected != sorted(expected)


@pytest.mark.parametrize("shuffle_shards", [1, 2])
def test_a_small_cache_downloads_each_shard_once_an_epoch(
    tmp_path, storage, manifest, set_limit, shuffle_shards
):
    steps = 6 * PATCHES // GLOBAL_BATCH
    expected = elements(
        make_batches(LocalStorage(tmp_path / "data"), manifest, shuffle_shards), 0, steps
    )
    set_limit(2 * shuffle_shards * manifest.shards[0].bytes)
    found = elements(make_batches(storage, manifest, shuffle_shards), 0, steps)
    assert_same(found, expected)
    assert sorted(storage.downloads()) == [shard.path for shard in manifest.shards]


def test_what_does_not_fit_the_cache_is_refused_with_the_fix(storage, manifest, set_limit):
    from data_pipeline.loading.dataset import check_node_fits

    size = manifest.shards[0].bytes
    set_limit(6 * size)
    check_node_fits(storage, manifest, None)
    set_limit(6 * size - 1)
    with pytest.raises(UserError, match=r"raise SRGAN_CACHE_GB, or set batch.shuffle_shards to 2"):
        check_node_fits(storage, manifest, None)
    check_node_fits(storage, manifest, 2)
    with pytest.raises(UserError, match=r"set batch\.shuffle_shards to 2$"):
        check_node_fits(storage, manifest, 3)


def test_a_cache_for_less_than_two_shards_can_only_be_raised(storage, manifest, set_limit):
    from data_pipeline.loading.dataset import check_node_fits

    set_limit(2 * manifest.shards[0].bytes - 1)
    with pytest.raises(UserError, match="raise SRGAN_CACHE_GB") as error:
        check_node_fits(storage, manifest, 1)
    assert "set batch.shuffle_shards to 1" not in str(error.value)


def test_local_data_needs_no_cache(tmp_path, cache, manifest, set_limit):
    from data_pipeline.loading.dataset import check_node_fits

    set_limit(1)
    check_node_fits(LocalStorage(tmp_path / "data"), manifest, None)


def mapped_shards(folder: Path) -> int:
    maps = Path("/proc/self/maps").read_text().splitlines()
    return len({line.split()[-1] for line in maps if str(folder) in line})


def test_open_shards_are_bounded_and_batches_stay_the_same(
    monkeypatch, tmp_path, storage, manifest
):
    local = LocalStorage(tmp_path / "data")
    expected = elements(make_batches(local, manifest), 0, 24)
    with monkeypatch.context() as patch:
        patch.setattr("data_pipeline.loading.patch_set.most_open_shards", lambda: 2)
        for bounded in (local, storage):
            assert_same(elements(make_batches(bounded, manifest), 0, 24), expected)
        other = make_data(tmp_path / "other", 6)
        patches = PatchSet(LocalStorage(tmp_path / "other"), other)
        for patch_id in (*range(0, 48, 5), *range(0, 48, 7)):
            patches.pair(patch_id)
            assert 1 <= mapped_shards(tmp_path / "other") <= 2
    assert_same(elements(make_batches(storage, manifest), 0, 24), expected)


@pytest.mark.parametrize("flip", [0, 1])
@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_the_eight_symmetries_are_numpys(flip, turns):
    image = np.random.default_rng(1).integers(0, 256, (40, 40, 3), np.uint8)
    crop = image[3:19, 7:23]
    out = np.empty((16, 16, 3), np.uint8)
    _augment(crop, flip, turns, out)
    np.testing.assert_array_equal(out, np.rot90(crop[:, ::-1] if flip else crop, turns))


def test_more_shards_than_a_process_can_open_are_refused(tmp_path, manifest, monkeypatch):
    from data_pipeline.loading.dataset import check_node_fits

    monkeypatch.setattr("data_pipeline.loading.dataset.most_open_shards", lambda: 5)
    local = LocalStorage(tmp_path / "data")
    with pytest.raises(
        UserError, match=r"6 shards are in use together, a process here can open 5; .* to 2$"
    ):
        check_node_fits(local, manifest, None)
    check_node_fits(local, manifest, 2)


if __name__ == "__main__":
    main(*sys.argv[1:])
