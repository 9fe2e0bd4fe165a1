"""Which files of a folder become images, and which LR belongs to which HR."""

import errno
import os
import shutil
import unicodedata
from pathlib import Path

import pytest

from data_pipeline.platform.errors import UserError
from data_pipeline.platform.storage import open_storage
from data_pipeline.prepare.sources import open_source
from tests.conftest import s3_client


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"not read here")
    return folder


def names(folder, lr: Path | None = None, scale: int = 4) -> list[str]:
    source = open_source(str(folder), "train", lr_uri=lr and str(lr), scale=scale)
    return [image.name for image in source.images]


def test_images_of_every_suffix_are_taken(tmp_path):
    suffixes = ("png", "jpg", "jpeg", "JPE", "jfif", "bmp", "webp", "tif", "TIFF")
    touch(tmp_path, *(f"{number}.{suffix}" for number, suffix in enumerate(suffixes)))
    assert names(tmp_path) == [str(number) for number in range(len(suffixes))]


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("@eaDir/a.jpg/SYNOPHOTO_THUMB_XL.jpg", "in a system's folder"),
        ("sub/@eaDir/a.jpg", "in a system's folder"),
        ("#recycle/a.png", "in a system's folder"),
        ("$RECYCLE.BIN/a.png", "in a system's folder"),
        ("__MACOSX/a.png", "in a system's folder"),
        ("lost+found/a.png", "in a system's folder"),
        ("@__thumb/a.png", "in a system's folder"),
        ("My.photoslibrary/resources/derivatives/A/A1_1_105_c.png", "in a system's folder"),
        ("._a.png", "hidden"),
        (".thumbnails/a.png", "hidden"),
        ("sub/.trash/a.png", "hidden"),
        ("a.gif", ".gif"),
        ("a.HEIC", ".heic"),
        ("a.png.part", ".part"),
        ("README", "without a suffix"),
        ("Thumbs.db", ".db"),
    ],
)
def test_what_is_left_out_is_told_with_an_example(tmp_path, caplog, key, reason):
    touch(tmp_path, "image.png", key)
    with caplog.at_level("INFO"):
        assert names(tmp_path) == ["image"]
    assert f"{tmp_path}: leaves out 1 file(s): 1 {reason} ({key!r})" in caplog.text


@pytest.mark.parametrize("folder", ["lost+found", ".Trashes", "a/$RECYCLE.BIN/S-1-5"])
def test_a_folder_that_does_not_read_matters_if_its_images_would_count(
    tmp_path, monkeypatch, folder
):
    touch(tmp_path, "image.png", f"{folder}/x.png", "private/x.png")
    scandir, closed = os.scandir, {str(tmp_path / folder)}

    def scan(path):
        if str(path) in closed:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", scan)  # root reads every folder
    assert names(tmp_path) == ["image", "private/x"]
    closed.add(str(tmp_path / "private"))
    with pytest.raises(UserError, match="private: does not read: Permission denied; fix that"):
        names(tmp_path)


def test_what_is_left_out_is_one_line_and_the_most_frequent_first(tmp_path, caplog):
    touch(tmp_path, "image.png", ".a", "b.gif", "c.gif", "d.txt")
    with caplog.at_level("INFO"):
        names(tmp_path)
    (line,) = caplog.messages
    assert line.endswith(
        "leaves out 4 file(s): 2 .gif ('b.gif'), 1 .txt ('d.txt'), 1 hidden ('.a')"
    )


def test_a_folder_of_images_alone_is_not_commented(tmp_path, caplog):
    with caplog.at_level("INFO"):
        names(touch(tmp_path, "a.png", "b/c.jpg"))
    assert caplog.messages == []


@pytest.mark.parametrize(
    "name", ["Bildschirmfoto 9.41\u202fPM", "a\u00a0b", "\u56fe\u3000\u50cf", "👩‍👧", "\u200bz"]
)
def test_names_that_people_have_are_taken(tmp_path, name):
    assert names(touch(tmp_path, f"{name}.png")) == [name]


@pytest.mark.parametrize("name", ["a\nb", "a\x1b[31m", "a\u2028b", "a\udce9"])
def test_names_that_would_spoil_a_line_are_refused(tmp_path, name):
    with pytest.raises(UserError, match="is no printable name; rename it"):
        names(touch(tmp_path, f"{name}.png"))


def test_links_are_followed_once(tmp_path, caplog):
    outside = touch(tmp_path / "outside", "b.png", "deep/c.png")
    source = touch(tmp_path / "source", "a.png", "sub/d.png")
    (outside / "deep/up").symlink_to(outside)
    (source / "album").symlink_to(outside)
    (source / "again").symlink_to(outside)
    (source / "inside").symlink_to(source / "sub")
    (source / "loop").symlink_to(source)
    (source / "e.png").symlink_to(outside / "b.png")
    (source / "broken.png").symlink_to(outside / "gone.png")
    (source / "self.png").symlink_to("self.png")
    assert names(source) == ["a", "again/b", "again/deep/c", "e", "sub/d"]
    for name in ("broken.png", "self.png"):
        assert f"{name}: links to no file; it is left out" in caplog.text
    (tmp_path / "link").symlink_to(source)
    assert names(tmp_path / "link") == names(source)


@pytest.mark.parametrize(
    ("files", "links", "expected"),
    [
        (["source/.store/a.png"], {"photos": ".store"}, ["photos/a"]),
        (["source/.store/x/a.png"], {"photos": ".store/x"}, ["photos/a"]),
        (["out/a.png"], {".cache": "../out", "photos": "../out"}, ["photos/a"]),
        ([".out/a.png"], {"photos": "../.out"}, ["photos/a"]),
        (["source/.store/a.png"], {"one": ".store", "two": ".store"}, ["one/a"]),
        (
            ["source/sub/.store/a.png"],
            {"photos": "sub/.store", "sub/.x": "../photos"},
            ["photos/a"],
        ),
        (["source/.store/a.png"], {".store/up": "..", "photos": ".store"}, ["photos/a"]),
    ],
)
def test_hidden_is_the_name_in_the_source_not_that_of_a_links_target(
    tmp_path, files, links, expected
):
    source = touch(tmp_path, *files) / "source"
    source.mkdir(exist_ok=True)
    for link, target in links.items():
        (source / link).symlink_to(target)
    assert names(source) == expected


@pytest.mark.parametrize("name", ["\u00e9", "\ud55c\uad6d", "\u212b x"], ids=["e", "hangul", "a"])
@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
@pytest.mark.parametrize("end", ["", "x3"])
def test_names_meet_in_every_unicode_form(tmp_path, name, forms, end):
    hr, lr = (unicodedata.normalize(form, name) for form in forms)
    touch(tmp_path / "hr", f"{hr}.png")
    touch(tmp_path / "lr", f"{lr}{end}.png")
    source = open_source(str(tmp_path / "hr"), "train", lr_uri=str(tmp_path / "lr"), scale=3)
    assert [image.lr.key for image in source.images] == [f"{lr}{end}.png"]


def test_the_same_spelling_goes_before_another(tmp_path):
    both = [f"{unicodedata.normalize(form, 'é')}.png" for form in ("NFC", "NFD")]
    touch(tmp_path / "hr", *both)
    touch(tmp_path / "lr", *both)
    source = open_source(str(tmp_path / "hr"), "train", lr_uri=str(tmp_path / "lr"), scale=4)
    assert [image.lr.key for image in source.images] == [image.hr.key for image in source.images]


NFC, NFD = "\u00e9", "e\u0301"


@pytest.mark.parametrize(
    ("hr", "lr", "message"),
    [
        ([NFC, NFD], [NFD], r"lr/e\u0301\.png: would be the LR of both 'e\\u0301.*' and '\\xe9"),
        ([NFC, NFD], [f"{NFC}x4"], "x4.png: would be the LR of both"),
        (["\u212b"], ["\u00c5", "A\u030a"], r"'A\\u030a\.png' and '\\xc5\.png' look the same"),
        (["a", "b/ax4", "ax4"], ["ax4", "b/ax4"], r"lr/ax4\.png: would be the LR of both 'a\.png'"),
    ],
)
def test_no_lr_file_is_taken_by_guess(tmp_path, hr, lr, message, monkeypatch):
    monkeypatch.setattr("data_pipeline.prepare.sources.refuse_mixtures", lambda *_: None)
    touch(tmp_path / "hr", *(f"{name}.png" for name in hr))
    touch(tmp_path / "lr", *(f"{name}.png" for name in lr))
    with pytest.raises(UserError, match=message):
        names(tmp_path / "hr", tmp_path / "lr")


def test_lr_files_of_no_image_are_told(tmp_path, caplog):
    touch(tmp_path / "hr", "a.png")
    touch(tmp_path / "lr", "ax4.png", "b.png", "cx4.png")
    assert names(tmp_path / "hr", tmp_path / "lr") == ["a"]
    assert f"{tmp_path}/lr: leaves out 2 LR file(s) that no HR image has (b.png)" in caplog.text


def test_an_image_without_lr_is_refused_with_the_names_it_could_have(tmp_path):
    touch(tmp_path / "hr", "a.png")
    touch(tmp_path / "lr", "ax4.png")
    with pytest.raises(UserError, match=r"holds no LR image for .*/hr/a\.png; name it a or ax2$"):
        names(tmp_path / "hr", tmp_path / "lr", scale=2)


def later(folder: Path) -> None:
    """Waits until the file system's clock, which ticks every few milliseconds, has gone on."""
    probe = folder / "probe"
    probe.touch()
    first = probe.stat().st_ctime_ns
    while probe.stat().st_ctime_ns == first:
        probe.touch()
    probe.unlink()


def test_the_time_of_change_cannot_be_set_back(tmp_path, bucket, moto):
    """Neither by `cp -p` nor by `mv` nor by a link to an older file; the server's own on S3."""
    old, new = touch(tmp_path / "old", "a.png"), tmp_path / "new"
    new.mkdir()
    storage = open_storage(str(new))
    (created,) = open_storage(str(old)).list()
    later(tmp_path)
    shutil.copy2(old / "a.png", new / "copied.png")
    (new / "linked.png").symlink_to(old / "a.png")
    assert all(found.changed > created.changed for found in storage.list())
    copied = storage.list()[0]
    later(tmp_path)
    (new / "copied.png").rename(new / "moved.png")
    assert storage.list()[1].changed > copied.changed
    s3_client(moto).put_object(Bucket=bucket, Key="a.png", Body=b"1")
    (found,) = open_storage(f"s3://{bucket}").list()
    assert abs(found.changed - created.changed) < 3600


def link(path: Path, target: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(target)


def move(path: Path, target: Path) -> None:
    shutil.rmtree(target)
    path.rename(target)


ALL = {"sub/deep/a.png", "sub/a.png", "linked/a.png", "linked/deep/a.png", "file.png"}


@pytest.mark.parametrize(
    ("change", "newer"),
    [
        (lambda root: link(root / "source", root / "v1"), ALL),
        (lambda root: link(root / "above", root), ALL),
        (lambda root: link(root / "middle", root / "v2"), {"linked/a.png", "linked/deep/a.png"}),
        (lambda root: link(root / "middle.png", root / "v2/a.png"), {"file.png"}),
        (lambda root: move(root / "other", root / "v1/sub"), ALL),  # v1 changes too
        (
            lambda root: move(root / "other/deep", root / "v1/sub/deep"),
            {"sub/a.png", "sub/deep/a.png"},
        ),
        (lambda root: touch(root / "v2/deep", ".thumbnail"), {"linked/deep/a.png"}),
    ],
    ids=["root", "above", "link to a link", "file", "folder", "subfolder", "no image"],
)
def test_a_file_is_as_new_as_the_links_and_folders_that_lead_to_it(tmp_path, change, newer):
    """Older folders take the place of others by `ln -sfn` and `mv`."""
    for folder in ("v1/sub", "v2", "other"):
        touch(tmp_path / folder, "a.png", "deep/a.png")
    link(tmp_path / "above", tmp_path)
    link(tmp_path / "middle", tmp_path / "v2")
    link(tmp_path / "middle.png", tmp_path / "v2/a.png")
    link(tmp_path / "v1/linked", tmp_path / "middle")
    link(tmp_path / "v1/file.png", tmp_path / "middle.png")
    link(tmp_path / "source", tmp_path / "v1")
    storage = open_storage(str(tmp_path / "above/source"), follow_links=True)
    before = {one.key: one.changed for one in storage.list()}
    assert before.keys() == ALL
    later(tmp_path)
    change(tmp_path)
    after = {one.key: one.changed for one in storage.list() if one.key in ALL}
    assert {key for key in ALL if after[key] > before[key]} == newer
