"""Every kind of damage to a data set is found, by `verify` and by training's reader, and named."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from data_pipeline.loading.cache import DamagedShardError
from data_pipeline.loading.patch_set import PatchSet
from data_pipeline.manifest import Manifest, require_manifest
from data_pipeline.platform.errors import UserError
from data_pipeline.platform.storage import open_storage
from data_pipeline.prepare.build import prepare
from data_pipeline.prepare.verify import verify
from tests.conftest import data_settings
from tests.data_pipeline.prepare.test_build import contents

pytestmark = pytest.mark.usefixtures("ray_local")

SHARD = 1  # camera: 9 patches, as coffee, which is shard 3
FORMATS = ("arrow", "tfrecord")


def first_boundary(content: bytes) -> int:
    """Where a shard's second message or record begins."""
    if content.startswith(b"ARROW1"):
        # Magic and padding, then the schema: a marker, its length, the schema itself.
        return 16 + int.from_bytes(content[12:16], "little")
    return 12 + int.from_bytes(content[:8], "little") + 4


PLACES: dict[str, Callable[[bytes], int]] = {
    "first byte": lambda content: 0,
    "header": lambda content: 9,  # of an Arrow message; a TFRecord's checksum of the length
    "first data": lambda content: 20,
    "before a boundary": lambda content: first_boundary(content) - 1,
    "after a boundary": first_boundary,
    "middle": lambda content: len(content) // 2,
    "footer": lambda content: len(content) - 8,
    "last byte": lambda content: len(content) - 1,
}

LENGTHS: dict[str, Callable[[bytes], int]] = {
    "empty": lambda content: 0,
    "within the first header": lambda content: 6,
    "at a boundary": first_boundary,
    "within the second header": lambda content: first_boundary(content) + 6,
    "middle": lambda content: len(content) // 2,
    "one byte short": lambda content: len(content) - 1,
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory, ray_local, photos, valid_photos) -> Path:
    """A data set of each format with one image a shard; tests must not change them."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("data_pipeline.prepare.build._SHARD_SOURCE_BYTES", 1)
        for shard_format in FORMATS:
            settings = data_settings(photos, valid_photos, format=shard_format)
            assert len(prepare(settings, str(folder / shard_format)).shards) == 6
    return folder


@pytest.fixture(params=FORMATS)
def data(request, tmp_path, whole) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(whole / request.param, tmp_path / "data"))


def read_all(data: Path) -> Manifest:
    storage = open_storage(str(data))
    manifest = require_manifest(storage)
    patches = PatchSet(storage, manifest)
    for number in range(len(patches)):
        patches.pair(number)
    return manifest


def shard_path(data: Path) -> Path:
    return data / require_manifest(open_storage(str(data))).shards[SHARD].path


def assert_both_name(data: Path, finding: str) -> None:
    """`finding` is what both say; verify says nothing else."""
    with pytest.raises(UserError) as refused:
        verify(str(data))
    fix = "; delete what is damaged and run the same jobs.prepare command again to restore it"
    assert str(refused.value) == finding + fix
    with pytest.raises(DamagedShardError) as stopped:
        read_all(data)
    assert str(stopped.value).startswith(f"{finding}; ")


def assert_wrong_content_is_named(data: Path, content: bytes) -> None:
    """Stores other content of the same size as shard SHARD."""
    path = shard_path(data)
    old = path.read_bytes()
    path.write_bytes(content)
    hashes = (hashlib.sha256(data).hexdigest() for data in (old, content))
    assert_both_name(data, "{}: expected sha256 {}, found {}".format(path, *hashes))


def test_a_whole_data_set_passes(data):
    assert verify(str(data)) == read_all(data)


@pytest.mark.parametrize("place", PLACES)
def test_a_flipped_bit_is_named(data, place):
    content = bytearray(shard_path(data).read_bytes())
    content[PLACES[place](bytes(content))] ^= 0x40
    assert_wrong_content_is_named(data, bytes(content))


@pytest.mark.parametrize("length", LENGTHS)
def test_a_cut_shard_is_named(data, length):
    path = shard_path(data)
    content = path.read_bytes()
    kept = LENGTHS[length](content)
    os.truncate(path, kept)
    assert_both_name(data, f"{path}: expected {len(content)} bytes, found {kept}")


def test_a_longer_shard_is_named(data):
    path = shard_path(data)
    size = path.stat().st_size
    with path.open("ab") as file:
        file.write(bytes(16))
    assert_both_name(data, f"{path}: expected {size} bytes, found {size + 16}")


def test_a_missing_shard_is_named(data):
    path = shard_path(data)
    path.unlink()
    assert_both_name(data, f"{path}: is missing")


def test_another_shard_of_the_same_size_is_named(data):
    manifest = require_manifest(open_storage(str(data)))
    other = manifest.shards[SHARD + 2]
    assert other.bytes == manifest.shards[SHARD].bytes
    assert_wrong_content_is_named(data, (data / other.path).read_bytes())


def test_damaged_validation_images_are_named(data):
    path = data / "valid/lr_x4/ihc.png"
    content = bytearray(path.read_bytes())
    content[60] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"valid/lr_x4/ihc\.png: expected sha256 \w+, found \w+; d"):
        verify(str(data))
    os.truncate(path, 10)
    with pytest.raises(UserError, match=r"valid/lr_x4/ihc\.png: expected \d+ bytes, found 10; del"):
        verify(str(data))
    path.unlink()
    with pytest.raises(UserError, match=r"valid/lr_x4/ihc\.png: is missing; delete"):
        verify(str(data))


def test_all_damages_are_named(data, caplog):
    manifest = require_manifest(open_storage(str(data)))
    first, _, _, fourth, *_ = (data / shard.path for shard in manifest.shards)
    os.truncate(first, 100)
    fourth.unlink()
    os.truncate(data / "valid/hr/retina.png", 0)
    (data / "valid/lr_x4/retina.png").unlink()
    (data / "notes.txt").write_text("an extra file is no damage")
    with pytest.raises(UserError) as error:
        verify(str(data))
    findings = [
        f"{first}: expected {manifest.shards[0].bytes} bytes, found 100",
        f"{fourth}: is missing",
        f"{data}/valid/hr/retina.png: expected {manifest.valid[1].hr.bytes} bytes, found 0",
        f"{data}/valid/lr_x4/retina.png: is missing",
    ]
    logged = [record.message for record in caplog.records if record.levelname == "ERROR"]
    assert logged == findings
    assert str(error.value).startswith(f"{findings[0]} (and 3 more); delete what is damaged and ")
    assert "\n" not in str(error.value)


def test_an_extra_file_is_a_warning(data, caplog):
    (data / "train/notes.txt").write_text("mine")
    verify(str(data))
    warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert warnings == [f"{data}/train/notes.txt: is not in the manifest"]


def test_the_fix_restores_every_byte(data, whole, monkeypatch):
    monkeypatch.setattr("data_pipeline.prepare.build._SHARD_SOURCE_BYTES", 1)
    shard_path(data).unlink()
    (data / "valid/hr/ihc.png").unlink()
    settings = require_manifest(open_storage(str(data))).settings
    prepare(settings, str(data))
    assert contents(data) == contents(whole / settings.format)
    verify(str(data))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda text: json.dumps(json.loads(text) | {"format_version": 3}),
            "has format version 3, this program reads 2; use the version of the program that made ",
        ),
        (lambda text: text[: len(text) // 2], "is damaged; run jobs.prepare into another folder"),
        (lambda text: text[:-3], "is damaged; run jobs.prepare into another folder"),
        (lambda text: "", "is damaged; run jobs.prepare into another folder"),
        (lambda text: "[]", "is damaged; run jobs.prepare into another folder"),
        (lambda text: "\0" * len(text), "is damaged; run jobs.prepare into another folder"),
        (lambda text: text.replace('"sha256"', '"sha25"', 1), "is damaged at shards.0."),
    ],
    ids=["newer", "cut", "brace lost", "empty", "no object", "zeros", "wrong field"],
)
def test_a_manifest_that_cannot_be_used_is_refused_in_one_line(tmp_path, whole, spoil, message):
    data = shutil.copytree(whole / "arrow", tmp_path / "data")
    path = data / "manifest.json"
    path.write_text(spoil(path.read_text()))
    for read in (verify, lambda uri: require_manifest(open_storage(uri))):
        with pytest.raises(UserError) as error:
            read(str(data))
        assert str(error.value).startswith(f"{path}: {message}")
        assert "\n" not in str(error.value)
