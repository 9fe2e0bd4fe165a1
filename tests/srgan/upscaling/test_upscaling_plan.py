"""Which pictures become which results, in folders and on an S3 server."""

from pathlib import Path

import pytest

from data_pipeline.platform.errors import UserError
from data_pipeline.platform.storage import open_storage
from srgan.upscaling.plan import Plan, plan

NAMES = ("a.png", "b c.JPG", "sub/a.png", "sub/deep/ä ö 図.tif", "notes.txt", ".hidden.png")


@pytest.fixture
def photos(tmp_path) -> Path:
    folder = tmp_path / "photos"
    for name in NAMES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"12345")
    return folder


def targets(found: Plan) -> dict[str, str]:
    return {work.source.key: work.target for work in found.works}


def same(*keys: str) -> dict[str, str]:
    return {key: key for key in keys}


def test_a_folder_keeps_its_names_and_leaves_out_what_is_no_picture(photos, tmp_path):
    found = plan(str(photos), str(tmp_path / "out"), ext=None)
    assert targets(found) == same("a.png", "b c.JPG", "sub/a.png", "sub/deep/ä ö 図.tif")
    assert (found.source.uri, found.target.uri) == (str(photos), str(tmp_path / "out"))
    assert not found.is_file
    assert [work.source.size for work in found.works] == [5] * 4


def test_ext_gives_all_results_one_suffix(photos, tmp_path):
    found = plan(str(photos), str(tmp_path / "out"), ext="webp")
    expected = ("a.webp", "b c.webp", "sub/a.webp", "sub/deep/ä ö 図.webp")
    assert tuple(targets(found).values()) == expected


@pytest.mark.parametrize(
    ("pattern", "keys"),
    [
        ("*.png", ["a.png"]),
        ("**/*.png", ["a.png", "sub/a.png"]),
        ("*/a.png", ["sub/a.png"]),
        ("sub/**", ["sub/a.png", "sub/deep/ä ö 図.tif"]),
        ("[ab]*", ["a.png", "b c.JPG"]),
        ("su?/*", ["sub/a.png"]),
    ],
)
def test_patterns_match_alike_in_folders_and_buckets(photos, tmp_path, bucket, pattern, keys):
    """Keys are relative to the folder before the first name with a wildcard."""
    storage = open_storage(f"s3://{bucket}/photos")
    for name in NAMES:
        storage.write(name, b"12345")
    cut = "sub/" if pattern == "sub/**" else ""
    expected = same(*(key.removeprefix(cut) for key in keys))
    for root in (str(photos), storage.uri):
        found = plan(f"{root}/{pattern}", str(tmp_path / "out"), ext=None)
        assert targets(found) == expected
        assert found.source.uri == f"{root}/{cut}".rstrip("/")


def test_a_file_or_folder_of_a_patterns_very_name_wins(photos, tmp_path):
    (photos / "x[1].png").write_bytes(b"1")
    (photos / "x1.png").write_bytes(b"1")
    out = str(tmp_path / "out")
    assert targets(plan(f"{photos}/x[1].png", out, ext=None)) == same("x[1].png")
    (photos / "album [2]").mkdir()
    (photos / "album [2]/c.png").write_bytes(b"1")
    assert targets(plan(f"{photos}/album [2]", out, ext=None)) == same("c.png")


def test_one_picture_becomes_a_file_or_lies_in_a_folder(photos, tmp_path, bucket, monkeypatch):
    for out, ext, root, key, is_file in (
        ("big.tif", None, tmp_path, "big.tif", True),
        ("big.tif", "tif", tmp_path, "big.tif", True),
        ("out", None, tmp_path / "out", "a.png", False),
        ("out", "jpg", tmp_path / "out", "a.jpg", False),
    ):
        found = plan(str(photos / "a.png"), str(tmp_path / out), ext=ext)
        assert (targets(found), found.is_file) == ({"a.png": key}, is_file)
        assert found.target.uri == str(root)
    (tmp_path / "folder.png").mkdir()
    found = plan(str(photos / "a.png"), str(tmp_path / "folder.png"), ext=None)
    assert (targets(found), found.is_file) == (same("a.png"), False)
    open_storage(f"s3://{bucket}/in").write("a.png", b"12345")
    found = plan(f"s3://{bucket}/in/a.png", f"s3://{bucket}/out/b.png", ext=None)
    assert (targets(found), found.target.uri) == ({"a.png": "b.png"}, f"s3://{bucket}/out")
    monkeypatch.chdir(photos)
    assert plan("a.png", "b.png", ext=None).source.uri == str(photos)


@pytest.mark.parametrize(
    ("given", "out", "ext", "message"),
    [
        ("none", "out", None, "none: no such file or folder"),
        ("photos/none.png", "out", None, "none.png: no such file or folder"),
        ("photos/sub/deep/none*", "out", None, r"none\*: matches no file; put the pattern in quo"),
        ("empty", "out", None, r"empty: holds no image \(.png"),
        ("photos/notes.txt", "out", None, "notes.txt: is no picture by its name"),
        ("photos/a.png", "b.png", "jpg", "b.png: does not end in .jpg; leave --ext out"),
        ("photos", "photos", None, "photos: lies in INPUT, or is it"),
        ("photos", "photos/x4", None, "photos/x4: lies in INPUT, or is it"),
        ("photos/**/*.png", "photos/x4", None, "lies in INPUT"),
        ("photos/a.png", "photos", None, "lies in INPUT"),
        ("photos/a.png", "link/a.png", None, "lies in INPUT"),
        ("nested/nested", "nested", None, "lies in INPUT"),
        ("twins", "out", "webp", "a.jpg and a.png: both become a.webp; leave --ext out, or"),
    ],
)
def test_refused(photos, tmp_path, given, out, ext, message):
    for name in ("empty", "twins", "nested/nested/nested"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("twins/a.jpg", "twins/a.png", "nested/nested/nested/b.png"):
        (tmp_path / name).write_bytes(b"1")
    (tmp_path / "link").symlink_to(photos)
    with pytest.raises(UserError, match=message):
        plan(str(tmp_path / given), str(tmp_path / out), ext=ext)


@pytest.mark.parametrize(
    ("given", "out", "ext"),
    [
        ("photos/a.png", "photos/a_x4.png", None),
        ("photos/*.png", "photos/x4", None),
        ("photos/*.png", "photos", "tif"),
        ("photos/sub", "photos/sub-x4", None),
        ("photos/sub", ".", None),
    ],
)
def test_results_beside_their_pictures(photos, tmp_path, given, out, ext):
    assert plan(str(tmp_path / given), str(tmp_path / out), ext=ext).works
