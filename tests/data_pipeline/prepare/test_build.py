import hashlib
import json
import os
import shutil
from pathlib import Path
from unittest import mock

import cv2
import numpy as np
import pytest

from data_pipeline.images import decode_image
from data_pipeline.imresize import imresize
from data_pipeline.loading.patch_set import PatchSet
from data_pipeline.manifest import DataSettings, require_manifest
from data_pipeline.platform.errors import UserError
from data_pipeline.platform.storage import LocalStorage, open_storage
from data_pipeline.prepare import originals
from data_pipeline.prepare.build import _plan, prepare
from data_pipeline.prepare.resume import DataFolder
from data_pipeline.prepare.verify import verify_sources
from tests.conftest import data_settings, s3_client

pytestmark = pytest.mark.usefixtures("ray_local")


def contents(folder: Path) -> dict[str, str]:
    """sha256 of every file, by path; folders too, so that an empty one is seen."""
    return {
        str(path.relative_to(folder)): (
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        )
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture
def tiny_shards(monkeypatch):
    """Several shards from few photographs."""
    monkeypatch.setattr("data_pipeline.prepare.build._SHARD_SOURCE_BYTES", 10_000)


def test_layout_and_manifest(small_data, photos):
    assert set(contents(small_data)) == {
        "manifest.json",
        "train",
        "train/00000.arrow",
        "valid",
        "valid/hr",
        "valid/hr/ihc.png",
        "valid/hr/retina.png",
        "valid/hr/zgrey.png",
        "valid/lr_x4",
        "valid/lr_x4/ihc.png",
        "valid/lr_x4/retina.png",
        "valid/lr_x4/zgrey.png",
    }
    manifest = json.loads((small_data / "manifest.json").read_text())
    assert manifest["format_version"] == 2
    images = {image["name"]: image for shard in manifest["shards"] for image in shard["images"]}
    assert list(images) == ["astronaut", "camera", "chelsea", "coffee", "more/motorcycle", "rocket"]
    assert (images["astronaut"]["height"], images["astronaut"]["width"]) == (96, 96)
    assert images["astronaut"]["patches"] == 9
    assert images["chelsea"]["patches"] == 4 * 5  # 100 x 128
    source = (photos / "rocket.png").read_bytes()
    assert images["rocket"]["source"]["sha256"] == hashlib.sha256(source).hexdigest()
    (shard,) = manifest["shards"]
    data = (small_data / "train/00000.arrow").read_bytes()
    assert shard["sha256"] == hashlib.sha256(data).hexdigest()
    assert shard["bytes"] == len(data)
    assert shard["patches"] == sum(image["patches"] for image in images.values())


def test_validation_images_are_whole_and_their_lr_is_bicubic(small_data, valid_photos):
    hr = decode_image((small_data / "valid/hr/ihc.png").read_bytes())
    source = decode_image((valid_photos / "ihc.png").read_bytes())
    np.testing.assert_array_equal(hr, source[:100, :100])
    lr = decode_image((small_data / "valid/lr_x4/ihc.png").read_bytes())
    np.testing.assert_array_equal(lr, imresize(hr, 0.25))
    grey = decode_image((small_data / "valid/hr/zgrey.png").read_bytes())
    assert grey.shape == (60, 64, 1)  # to be scored on its own values


def build_here(monkeypatch, as_worker_sees=lambda storage: storage):
    """Builds parts in this process, one after the other, the last one first."""

    def fan_out(function, arguments, **_):
        results = [
            function(part, settings, as_worker_sees(storage))
            for part, settings, storage in reversed(list(arguments))
        ]
        return results[::-1]

    monkeypatch.setattr("data_pipeline.platform.fanout.fan_out", fan_out)


def test_same_bytes_from_two_workers_and_one_after_the_other(
    monkeypatch, tiny_shards, tmp_path, photos, valid_photos
):
    settings = data_settings(photos, valid_photos)
    assert len(prepare(settings, str(tmp_path / "two")).shards) > 2
    build_here(monkeypatch)
    prepare(settings, str(tmp_path / "one"))
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_both_formats_hold_the_same_patches_in_the_same_order(tiny_shards, tmp_path, photos):
    sets = []
    for shard_format in ("arrow", "tfrecord"):
        out = tmp_path / shard_format
        manifest = prepare(data_settings(photos, format=shard_format), str(out))
        patches = PatchSet(open_storage(str(out)), manifest)
        sets.append([patches.pair(number) for number in range(len(patches))])
    assert len(sets[0]) == len(sets[1]) > 50
    for (hr, lr), (other_hr, other_lr) in zip(*sets, strict=True):
        np.testing.assert_array_equal(hr, other_hr)
        np.testing.assert_array_equal(lr, other_lr)


def test_said_again_it_changes_nothing(tmp_path, small_data, photos, valid_photos, caplog):
    copy = tmp_path / "copy"
    shutil.copytree(small_data, copy)
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*")}
    with caplog.at_level("INFO"):
        prepare(data_settings(photos, valid_photos), str(copy))
    assert "already complete" in caplog.text
    assert {path: path.stat().st_mtime_ns for path in copy.rglob("*")} == before


def test_a_missing_shard_is_made_again_and_only_it(tiny_shards, tmp_path, photos, valid_photos):
    out = tmp_path / "data"
    settings = data_settings(photos, valid_photos)
    prepare(settings, str(out))
    before = contents(out)
    kept = (out / "train/00000.arrow").stat().st_mtime_ns
    (out / "train/00001.arrow").unlink()
    (out / "train/.00002.arrow.abc.partial").write_bytes(b"left by a killed writer")
    prepare(settings, str(out))
    assert contents(out) == before
    assert (out / "train/00000.arrow").stat().st_mtime_ns == kept


def test_an_interrupted_build_goes_on(tiny_shards, tmp_path, photos, valid_photos):
    """As a kill between two parts leaves it: parts with records, parts without, no manifest."""
    whole, out = tmp_path / "whole", tmp_path / "out"
    settings = data_settings(photos, valid_photos)
    manifest = prepare(settings, str(whole))
    (out / "train").mkdir(parents=True)
    (out / "progress/train").mkdir(parents=True)
    (out / "progress/settings.json").write_text(settings.model_dump_json())
    shutil.copy(whole / "train/00000.arrow", out / "train/00000.arrow")
    (out / "progress/train/00000.json").write_text(manifest.shards[0].model_dump_json())
    (out / "train/00001.arrow").write_bytes(b"no record: not to be believed")
    kept = (out / "train/00000.arrow").stat().st_mtime_ns
    prepare(settings, str(out))
    assert contents(out) == contents(whole)
    assert (out / "train/00000.arrow").stat().st_mtime_ns == kept


def test_other_settings_are_refused_by_name(tmp_path, small_data, photos, valid_photos):
    copy = tmp_path / "copy"
    shutil.copytree(small_data, copy)
    before = contents(copy)
    with pytest.raises(UserError, match=r"patch_size: 48, now 32; stride: 24, now 16"):
        prepare(data_settings(photos, valid_photos, patch_size=32, stride=16), str(copy))
    assert contents(copy) == before


def test_other_settings_are_welcome_before_the_first_shard(tmp_path, photos, valid_photos):
    """As after "pass a smaller --patch-size": validation pairs are made, no shard is."""
    out = tmp_path / "out"
    with pytest.raises(UserError, match="pass a smaller --patch-size"):
        prepare(data_settings(photos, valid_photos, patch_size=128), str(out))
    prepare(data_settings(photos, valid_photos), str(out))
    prepare(data_settings(photos, valid_photos), str(tmp_path / "fresh"))
    assert contents(out) == contents(tmp_path / "fresh")


def test_a_changed_source_is_refused_by_name(tmp_path, photos):
    source = tmp_path / "source"
    shutil.copytree(photos, source)
    prepare(data_settings(source), str(tmp_path / "out"))
    shutil.copy(source / "camera.png", source / "camera2.png")
    (source / "coffee.jpg").unlink()
    with pytest.raises(
        UserError,
        match=r"list of images is another one now \(\+ camera2\.png, - coffee\): files came or went"
        ", or a newer version of this program reads other files; choose another --out",
    ):
        prepare(data_settings(source), str(tmp_path / "out"))
    (source / "camera2.png").rename(source / "coffee.jpg")
    with pytest.raises(UserError, match=r"images have changed since \(coffee\); choose another"):
        prepare(data_settings(source), str(tmp_path / "out"))


def folder_arguments(data, photos, valid_photos):
    settings = data_settings(photos, valid_photos)
    parts = _plan(*originals.open_sources(settings, None))
    return open_storage(str(data)), settings, parts


def other_content(path: Path) -> bytes:
    """Another BMP of the same size in bytes."""
    data = bytearray(path.read_bytes())
    data[-3000:] = bytes(255 - value for value in data[-3000:])
    return bytes(data)


def write(path: Path) -> None:
    path.write_bytes(other_content(path))


def copy_an_older_file(path: Path) -> None:
    old = path.with_suffix(".old")
    old.write_bytes(other_content(path))
    os.utime(old, (0, 0))
    shutil.copy2(old, path)
    old.unlink()


def move_an_older_file(path: Path) -> None:
    copy_an_older_file(path)
    shutil.copy2(path, path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)


def link_to_another(path: Path) -> None:
    other = path.parent.parent / "other"
    other.write_bytes(other_content(path))
    path.unlink()
    path.symlink_to(other)


def older_folder(path: Path) -> Path:
    """A folder with another file of the same name and size, which is older than DATA."""
    return path.parent.with_name(f"older-{path.parent.name}")


def move_an_older_folder(path: Path) -> None:
    shutil.rmtree(path.parent)
    older_folder(path).rename(path.parent)


def link_to_an_older_folder(path: Path) -> None:
    shutil.rmtree(path.parent)
    path.parent.symlink_to(older_folder(path))


@pytest.mark.parametrize(
    "replace",
    [
        write,
        copy_an_older_file,
        move_an_older_file,
        link_to_another,
        move_an_older_folder,
        link_to_an_older_folder,
    ],
)
@pytest.mark.parametrize("place", ["hr", "lr"])
def test_another_image_of_the_same_name_and_size_is_noticed(
    tmp_path, photos, monkeypatch, replace, place
):
    monkeypatch.setattr("data_pipeline.prepare.originals._CLOCKS_DIFFER_SECONDS", 0.0)
    for name in ("hr", "lr"):
        (tmp_path / name).mkdir()
    hr = cv2.imread(str(photos / "rocket.png"))
    cv2.imwrite(str(tmp_path / "hr/a.bmp"), hr)
    cv2.imwrite(str(tmp_path / "lr/a.bmp"), hr[::4, ::4])
    for path in (tmp_path / "hr/a.bmp", tmp_path / "lr/a.bmp"):
        older_folder(path).mkdir()
        (older_folder(path) / "a.bmp").write_bytes(other_content(path))
    settings = data_settings(tmp_path / "hr", lr_source=str(tmp_path / "lr"))
    prepare(settings, str(tmp_path / "out"))
    before = contents(tmp_path / "out")
    replace(tmp_path / place / "a.bmp")
    with pytest.raises(UserError, match=r"images have changed since \(a\); choose another --out"):
        prepare(settings, str(tmp_path / "out"))
    with pytest.raises(UserError, match=rf"{place}/a\.bmp: is not the file that the data set"):
        verify_sources(str(tmp_path / "out"), {})
    assert contents(tmp_path / "out") == before


def test_another_image_of_the_same_name_and_size_in_a_bucket_is_noticed(
    tmp_path, photos, bucket, moto
):
    data = (photos / "chelsea.bmp").read_bytes()
    s3_client(moto).put_object(Bucket=bucket, Key="photos/a.bmp", Body=data)
    with mock.patch.object(originals, "_CLOCKS_DIFFER_SECONDS", 0.0):
        # Ray's workers do not know the server: the folder is read, the bucket is compared.
        (tmp_path / "src").mkdir()
        (tmp_path / "src/a.bmp").write_bytes(data)
        manifest = prepare(data_settings(tmp_path / "src"), str(tmp_path / "out"))
        moved = data_settings(f"s3://{bucket}/photos")
        found = originals.compare_sources(manifest, originals.open_sources(moved, None))
        assert found == ([], "1 HR and 0 LR files are what the data set was made of")
        body = other_content(photos / "chelsea.bmp")
        s3_client(moto).put_object(Bucket=bucket, Key="photos/a.bmp", Body=body)
        s3_client(moto).put_object(Bucket=bucket, Key="photos/b.bmp", Body=body)
        found = originals.compare_sources(manifest, originals.open_sources(moved, None))
        assert found.differences == [
            f"s3://{bucket}/photos/b.bmp: is not in the data set",
            f"s3://{bucket}/photos/a.bmp: is not the file that the data set was made of",
        ]


def test_files_that_are_older_than_the_data_set_are_not_read_again(
    tmp_path, small_data, photos, valid_photos, monkeypatch, caplog
):
    data = DataFolder(*folder_arguments(small_data, photos, valid_photos))
    assert data.finished()
    assert "names and sizes of 9 source files are the same" in data.compared
    assert "the content of 9 that" in data.compared  # the tests made them a moment ago
    monkeypatch.setattr("data_pipeline.prepare.originals._CLOCKS_DIFFER_SECONDS", -86_400.0)
    data = DataFolder(*folder_arguments(small_data, photos, valid_photos))
    assert "the content of 0 that" in data.compared


def test_a_part_of_a_changed_image_is_built_again(tiny_shards, tmp_path, photos):
    """A build was killed; then an image was replaced by another of the same size."""
    source, out = tmp_path / "source", tmp_path / "out"
    shutil.copytree(photos, source)
    whole = (source / "rocket.png").read_bytes()
    (source / "rocket.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"rocket\.png"):
        prepare(data_settings(source), str(out))
    (source / "rocket.png").write_bytes(whole)
    write(source / "chelsea.bmp")
    prepare(data_settings(source), str(out))
    prepare(data_settings(source), str(tmp_path / "fresh"))
    assert contents(out)["train"] == contents(tmp_path / "fresh")["train"]
    shards = [path for path in contents(out) if path.startswith("train/")]
    assert len(shards) > 2
    for path in shards:
        assert contents(out)[path] == contents(tmp_path / "fresh")[path]


def test_an_image_that_changed_while_other_parts_were_built_is_noticed(
    tmp_path, photos, monkeypatch
):
    """The manifest of a long build is much younger than its first part."""
    monkeypatch.setattr("data_pipeline.prepare.originals._CLOCKS_DIFFER_SECONDS", 0.0)
    source, out = tmp_path / "source", tmp_path / "out"
    shutil.copytree(photos, source)
    prepare(data_settings(source), str(out))
    write(source / "chelsea.bmp")
    (out / "manifest.json").touch()
    with pytest.raises(UserError, match=r"images have changed since \(chelsea\)"):
        prepare(data_settings(source), str(out))


def test_the_sources_are_compared_whole(tmp_path, small_data, photos, valid_photos, caplog):
    compared = "9 HR and 0 LR files are what the data set was made of"
    assert verify_sources(str(small_data), {}) == compared
    moved = tmp_path / "moved"
    shutil.copytree(photos, moved)
    assert verify_sources(str(small_data), {"source": str(moved)}) == compared
    shutil.copy(moved / "camera.png", moved / "extra.png")
    shutil.copy(moved / "camera.png", moved / "rocket.png")
    (moved / "coffee.jpg").unlink()
    with pytest.raises(UserError, match=r"extra\.png: is not in the data set \(and 2 more\)"):
        verify_sources(str(small_data), {"source": str(moved)})
    assert f"{moved}: no longer holds coffee" in caplog.text
    assert f"{moved}/rocket.png: is not the file that the data set was made of" in caplog.text


@pytest.fixture
def doubtful(tmp_path, photos) -> DataSettings:
    """Three images, of which the last two have LR of another picture."""
    for name in ("hr", "lr"):
        (tmp_path / name).mkdir()
    names = ("astronaut", "rocket", "more/motorcycle")
    images = [cv2.imread(str(photos / f"{name}.png"))[:96, :96] for name in names]
    for name, hr, other in zip("abc", images, (0, 2, 1), strict=True):
        cv2.imwrite(str(tmp_path / f"hr/{name}.png"), hr)
        cv2.imwrite(str(tmp_path / f"lr/{name}.png"), imresize(images[other], 0.25))
    return data_settings(tmp_path / "hr", lr_source=str(tmp_path / "lr"))


def test_doubts_about_lr_are_told_also_after_a_kill(tiny_shards, tmp_path, doubtful, caplog):
    """A killed build and its second start tell the same; the manifest does not hold doubts."""
    manifest = prepare(doubtful, str(tmp_path / "whole"))
    told = [line for line in caplog.messages if "may not be" in line]
    hr, lr = tmp_path / "hr", tmp_path / "lr"
    assert len(told) == 3
    for name, line in zip("bc", told, strict=False):
        start = f"{lr}/{name}.png: may not be the LR of {hr}/{name}.png, it is "
        assert line.startswith(start)
        assert line.endswith(" dB from the downscaled HR")
    assert told[2].startswith("2 LR file(s) may not be of their HR image; ")
    assert b"may not" not in (tmp_path / "whole/manifest.json").read_bytes()

    whole = (hr / "c.png").read_bytes()
    (hr / "c.png").write_bytes(whole[:-100])
    with pytest.raises(UserError, match=r"c\.png"):
        prepare(doubtful, str(tmp_path / "killed"))
    (hr / "c.png").write_bytes(whole)
    caplog.clear()
    assert prepare(doubtful, str(tmp_path / "killed")) == manifest
    assert [line for line in caplog.messages if "may not be" in line] == told
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_lr_that_was_not_compared_is_told(tmp_path, doubtful):
    prepare(doubtful, str(tmp_path / "out"))
    compared = "3 HR and 3 LR files are what the data set was made of"
    assert verify_sources(str(tmp_path / "out"), {}) == compared
    manifest = require_manifest(open_storage(str(tmp_path / "out")))
    sources = originals.open_sources(doubtful.model_copy(update={"lr_source": None}), None)
    found = originals.compare_sources(manifest, sources).compared
    assert found.startswith(
        "3 HR and 0 LR files are what the data set was made of; 3 LR files were"
    )


def test_nothing_beyond_a_link_in_data_is_removed(tiny_shards, tmp_path, photos):
    out, outside = tmp_path / "out", tmp_path / "outside"
    prepare(data_settings(photos), str(out))
    outside.mkdir()
    (outside / "mine.arrow").write_bytes(b"1")
    (out / "train/link").symlink_to(outside)
    (out / "train/00000.arrow").unlink()
    prepare(data_settings(photos), str(out))
    assert (out / "train/00000.arrow").exists()
    assert (outside / "mine.arrow").exists()


def test_a_folder_of_data_may_lie_on_another_disk(tiny_shards, tmp_path, photos, monkeypatch):
    out, disk = tmp_path / "out", tmp_path / "disk"
    manifest = prepare(data_settings(photos), str(out))
    (out / "train").rename(disk)
    (out / "train").symlink_to(disk)
    assert prepare(data_settings(photos), str(out)) == manifest
    assert not (out / "progress").exists()
    lost = (disk / "00000.arrow").read_bytes()
    (disk / "00000.arrow").unlink()
    assert prepare(data_settings(photos), str(out)) == manifest
    assert (disk / "00000.arrow").read_bytes() == lost


def test_files_that_a_build_does_not_make_stay(tiny_shards, tmp_path, photos):
    manifest = prepare(data_settings(photos), str(tmp_path))
    theirs = [tmp_path / "train/notes.txt", tmp_path / "valid/mine.png"]
    for path in theirs:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"mine")
    (tmp_path / "train/99999.arrow").write_bytes(b"of an earlier attempt")
    (tmp_path / "train/00000.arrow").unlink()
    assert prepare(data_settings(photos), str(tmp_path)) == manifest
    assert all(path.read_bytes() == b"mine" for path in theirs)
    assert not (tmp_path / "train/99999.arrow").exists()


def test_data_inside_its_source_is_refused_also_through_a_link(tmp_path, photos):
    (tmp_path / "link").symlink_to(photos)
    with pytest.raises(UserError, match=r"lies within .* or the other way round"):
        prepare(data_settings(photos), str(tmp_path / "link/out"))


@pytest.mark.parametrize("name", ["\u56fe" * 83, "n" * 251, "\U0001f5bc" * 62])
def test_names_as_long_as_a_file_system_allows(tmp_path, photos, name):
    for folder in ("train", "valid"):
        (tmp_path / folder).mkdir()
    shutil.copy(photos / "camera.png", tmp_path / "train" / f"{name}.png")
    shutil.copy(photos / "rocket.png", tmp_path / "valid" / f"{name}.png")
    settings = data_settings(tmp_path / "train", tmp_path / "valid")
    manifest = prepare(settings, str(tmp_path / "out"))
    assert manifest.shards[0].images[0].name == name
    assert (tmp_path / "out/valid/hr" / f"{name}.png").exists()
    assert prepare(settings, str(tmp_path / "out")) == manifest


def test_a_name_that_a_file_system_does_not_allow_is_named(tmp_path):
    storage = LocalStorage(tmp_path)
    for write_it in (storage.write, storage.write_new):
        with pytest.raises(UserError, match="n: the name is too long for this file system; use"):
            write_it("n" * 256, b"")
    assert contents(tmp_path) == {}


def test_bad_images_are_all_named_and_good_ones_kept(tiny_shards, tmp_path, photos, caplog):
    source, out = tmp_path / "source", tmp_path / "out"
    shutil.copytree(photos, source)
    whole = (source / "rocket.png").read_bytes()
    (source / "rocket.png").write_bytes(whole[: len(whole) // 2])
    (source / "astronaut.png").write_text("no image")
    with pytest.raises(UserError, match=r"astronaut\.png: does not decode.*and 1 more"):
        prepare(data_settings(source), str(out))
    assert "rocket.png: does not decode" in caplog.text
    assert not (out / "manifest.json").exists()
    shutil.copy(photos / "rocket.png", source / "rocket.png")
    shutil.copy(photos / "astronaut.png", source / "astronaut.png")
    assert prepare(data_settings(source), str(out)).num_patches > 0


def test_an_image_that_moves_to_the_other_source_is_noticed(tmp_path, photos, valid_photos):
    source, valid, out = tmp_path / "source", tmp_path / "valid", tmp_path / "out"
    shutil.copytree(photos, source)
    shutil.copytree(valid_photos, valid)
    prepare(data_settings(source, valid), str(out))
    shutil.move(source / "camera.png", valid / "camera.png")
    with pytest.raises(
        UserError, match=r"another one now \(\+ camera\.png, - camera\): files came"
    ):
        prepare(data_settings(source, valid), str(out))


def test_leftovers_of_an_attempt_with_more_images_are_removed(tiny_shards, tmp_path, photos):
    source, out = tmp_path / "source", tmp_path / "out"
    shutil.copytree(photos, source)
    (source / "zz.png").write_text("no image")
    with pytest.raises(UserError, match=r"zz\.png"):
        prepare(data_settings(source), str(out))
    for name in ("zz.png", "rocket.png", "astronaut.png"):
        (source / name).unlink()
    prepare(data_settings(source), str(out))
    prepare(data_settings(source), str(tmp_path / "fresh"))
    assert contents(out) == contents(tmp_path / "fresh")


def test_a_damaged_validation_image_is_made_again(tmp_path, small_data, photos, valid_photos):
    copy = tmp_path / "copy"
    shutil.copytree(small_data, copy)
    (copy / "valid/hr/ihc.png").write_bytes(b"")
    prepare(data_settings(photos, valid_photos), str(copy))
    assert contents(copy) == contents(small_data)


@pytest.mark.parametrize("out", [".", "inside", ".."])
def test_data_within_its_source_is_refused(tmp_path, photos, out):
    source = tmp_path / "parent" / "source"
    shutil.copytree(photos, source)
    before = contents(tmp_path)
    where = os.path.normpath(source / out)
    with pytest.raises(UserError, match="choose a folder beside it"):
        prepare(data_settings(source), where)
    assert contents(tmp_path) == before


def test_a_folder_with_other_files_is_refused(tmp_path, photos):
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "mine.png").write_text("precious")
    with pytest.raises(UserError, match=r"holds other files \(train/mine\.png\)"):
        prepare(data_settings(photos), str(tmp_path))
    assert contents(tmp_path).keys() == {"train", "train/mine.png"}


def test_a_validation_image_too_small_to_score_is_named(tmp_path, photos):
    valid = tmp_path / "valid"
    valid.mkdir()
    cv2.imwrite(str(valid / "tiny.png"), np.zeros((18, 40), np.uint8))
    with pytest.raises(UserError, match=r"tiny\.png: 40x16 pixels are less than 19x19; it cannot"):
        prepare(data_settings(photos, valid), str(tmp_path / "out"))


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path, photos):
    settings = data_settings(photos)
    (tmp_path / "progress").mkdir()
    (tmp_path / "progress/settings.json").write_text(settings.model_dump_json())
    (tmp_path / "train").write_text("a file where a folder must be")
    with pytest.raises(UserError, match="cannot write") as error:
        prepare(settings, str(tmp_path))
    assert "\n" not in str(error.value)


def test_a_validation_image_that_is_trained_on_is_refused(tmp_path, photos):
    valid = tmp_path / "valid"
    valid.mkdir()
    shutil.copy(photos / "camera.png", valid / "other_name.png")
    with pytest.raises(UserError, match="other_name: the validation image is the training image"):
        prepare(data_settings(photos, valid), str(tmp_path / "out"))
    assert not (tmp_path / "out/manifest.json").exists()


def test_an_image_smaller_than_a_patch_is_named(tmp_path, photos):
    with pytest.raises(UserError, match="96x96 pixels are less than 128x128; pass a smaller"):
        prepare(data_settings(photos, patch_size=128), str(tmp_path / "out"))


def test_parts_that_workers_wrote_to_disks_of_their_own_are_missed(monkeypatch, tmp_path, photos):
    build_here(monkeypatch, lambda storage: open_storage(str(tmp_path / "disk")))
    with pytest.raises(UserError, match="what the workers wrote is not there; on a cluster pass"):
        prepare(data_settings(photos), str(tmp_path / "out"))
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_a_build_that_another_one_took_over_ends_without_a_manifest(monkeypatch, tmp_path, photos):
    other = data_settings(photos, stride=12)

    def take_over(storage):
        storage.write("progress/settings.json", other.model_dump_json().encode())
        return storage

    build_here(monkeypatch, take_over)
    with pytest.raises(UserError, match=r"was made with other settings \(stride: 12, now 24"):
        prepare(data_settings(photos), str(tmp_path / "out"))
    assert not (tmp_path / "out" / "manifest.json").exists()


@pytest.mark.parametrize("look", [("list",), ("size", "manifest.json")])
def test_another_command_that_finishes_meanwhile_does_no_harm(
    monkeypatch, tmp_path, small_data, photos, valid_photos, look
):
    """DATA is unfinished at a first look, and finished right after it."""
    out, settings = tmp_path / "out", data_settings(photos, valid_photos)
    shutil.copytree(small_data, out)
    manifest = (out / "manifest.json").rename(tmp_path / "manifest.json")
    (out / "progress/train").mkdir(parents=True)
    (out / "progress/settings.json").write_text(settings.model_dump_json())
    (out / "progress/train/00000.json").write_text("{}")
    storage = LocalStorage(out)
    method, *arguments = look
    original = getattr(storage, method)

    def look_before_the_end(*found_arguments):
        found = original(*found_arguments)
        if manifest.exists() and found_arguments == tuple(arguments):
            shutil.rmtree(out / "progress")
            manifest.rename(out / "manifest.json")
        return found

    monkeypatch.setattr(storage, method, look_before_the_end)
    monkeypatch.setattr("data_pipeline.prepare.build.open_storage", lambda uri: storage)
    build_here(monkeypatch)
    prepare(settings, str(out))
    assert not manifest.exists()
    assert contents(out) == contents(small_data)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scale": 1}, "--scale 1: must be one of 2, 3, 4, 8"),
        ({"patch_size": 50}, "--patch-size 50: must be a multiple of the scale 4"),
        ({"stride": 0}, "--stride 0: must be a multiple of the scale 4"),
    ],
)
def test_wrong_settings_write_nothing(tmp_path, photos, changes, message):
    with pytest.raises(UserError, match=message):
        prepare(data_settings(photos, **changes), str(tmp_path / "out"))
    assert not os.listdir(tmp_path)


def test_two_images_of_one_name_are_refused(tmp_path, photos):
    source = tmp_path / "source"
    shutil.copytree(photos, source)
    cv2.imwrite(str(source / "camera.jpg"), np.zeros((96, 96), np.uint8))
    with pytest.raises(UserError, match=r"share a name: camera\.jpg and camera\.png; rename"):
        prepare(data_settings(source), str(tmp_path / "out"))


def test_a_newer_or_damaged_manifest_is_named(tmp_path, small_data):
    copy = tmp_path / "copy"
    shutil.copytree(small_data, copy)
    path = copy / "manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps(manifest | {"format_version": 3}))
    with pytest.raises(UserError, match="format version 3, this program reads 2"):
        require_manifest(open_storage(str(copy)))
    del manifest["shards"][0]["sha256"]
    path.write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=r"damaged at shards\.0\.sha256"):
        require_manifest(open_storage(str(copy)))
    path.write_text(path.read_text()[:100])
    with pytest.raises(UserError, match="is damaged"):
        require_manifest(open_storage(str(copy)))
