"""DIV2K from small archives of the official layout: over HTTP, in folders, in a bucket."""

import hashlib
import shutil
import threading
import zipfile
from collections import Counter
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import pytest

from data_pipeline.images import decode_image, encode_png
from data_pipeline.imresize import imresize
from data_pipeline.manifest import DataSettings
from data_pipeline.platform.errors import UserError
from data_pipeline.platform.storage.archive import ZipStorage
from data_pipeline.prepare import div2k
from data_pipeline.prepare.build import prepare
from data_pipeline.prepare.download import Content
from tests.conftest import data_settings, photograph, s3_client

NAMES = (
    "DIV2K_train_HR",
    "DIV2K_train_LR_bicubic_X4",
    "DIV2K_valid_HR",
    "DIV2K_valid_LR_bicubic_X4",
)


def div2k_settings(**changes) -> DataSettings:
    return data_settings("div2k", "div2k", **changes)


@pytest.fixture
def images(tmp_path) -> Path:
    """Three training and two validation images with their LR, in the folders of the archives."""
    root = tmp_path / "images"
    photo = photograph("astronaut.png")
    splits = {1: "train", 2: "train", 3: "train", 801: "valid", 802: "valid"}
    for start, (number, split) in zip(range(0, 250, 50), splits.items(), strict=True):
        hr = root / f"DIV2K_{split}_HR" / f"{number:04}.png"
        lr = root / f"DIV2K_{split}_LR_bicubic" / "X4" / f"{number:04}x4.png"
        hr.parent.mkdir(parents=True, exist_ok=True)
        lr.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(hr), photo[start : start + 96, start : start + 120])
        lr.write_bytes(encode_png(imresize(decode_image(hr.read_bytes()), 0.25)))
    return root


@pytest.fixture
def archives(tmp_path, images, monkeypatch) -> Path:
    folder = tmp_path / "archives"
    folder.mkdir()
    for name in NAMES:
        with zipfile.ZipFile(folder / f"{name}.zip", "w") as archive:
            for path in sorted((images / name.replace("_X4", "")).rglob("*")):
                archive.write(path, path.relative_to(images))
    publish(folder, monkeypatch)
    monkeypatch.setattr(div2k, "_NUMBERS", {"train": range(1, 4), "valid": range(801, 803)})
    monkeypatch.setenv("SRGAN_CACHE", str(tmp_path / "node"))
    return folder


def publish(folder: Path, monkeypatch) -> None:
    """Declares the archives of a folder to be the official ones."""
    table = {
        path.name: div2k._Archive(
            div2k._ARCHIVES[path.name].folder,
            Content(path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest()),
        )
        for path in folder.glob("*.zip")
    }
    monkeypatch.setattr(div2k, "_ARCHIVES", table)


@contextmanager
def website(folder: Path):
    """Serves a folder; yields its address and the count of requests by path."""
    requests = Counter()

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self):
            requests[self.path] += 1
            super().do_GET()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", requests
        finally:
            server.shutdown()
            thread.join()


def shards(manifest) -> list[str]:
    return [shard.sha256 for shard in manifest.shards]


def pngs(manifest) -> list[tuple[str, str]]:
    return [(valid.hr.sha256, valid.lr.sha256) for valid in manifest.valid]


@pytest.mark.usefixtures("ray_local")
def test_archives_are_downloaded_once_and_give_what_their_images_give(
    archives, images, tmp_path, caplog
):
    with website(archives) as (address, requests), caplog.at_level("INFO"):
        manifest = prepare(div2k_settings(), str(tmp_path / "one"), mirror=address)
        assert requests == {f"/{name}.zip": 1 for name in NAMES}
        prepare(div2k_settings(format="tfrecord"), str(tmp_path / "two"), mirror=address)
        assert requests.total() == len(NAMES)
    texts = [record.message for record in caplog.records]
    assert "academic research only" in texts[0]
    names = [image.name for shard in manifest.shards for image in shard.images]
    assert names == ["0001", "0002", "0003"]
    assert all(image.lr_source for shard in manifest.shards for image in shard.images)
    assert [valid.name for valid in manifest.valid] == ["0801", "0802"]
    plain = prepare(
        data_settings(images / "DIV2K_train_HR", images / "DIV2K_valid_HR"), str(tmp_path / "three")
    )
    assert shards(manifest) == shards(plain)
    assert pngs(manifest) == pngs(plain)


@pytest.mark.usefixtures("ray_local")
def test_without_lr_archives_lr_is_made_bit_for_bit(archives, tmp_path):
    with website(archives) as (address, _):
        whole = prepare(div2k_settings(), str(tmp_path / "one"), mirror=address)
    shutil.rmtree(tmp_path / "node")
    for name in ("train", "valid"):
        (archives / f"DIV2K_{name}_LR_bicubic_X4.zip").unlink()
    with website(archives) as (address, _):
        made = prepare(div2k_settings(), str(tmp_path / "two"), mirror=address)
    assert not any(image.lr_source for shard in made.shards for image in shard.images)
    assert shards(made) == shards(whole)
    assert pngs(made) == pngs(whole)


def sources(mirror, settings=None):
    settings = settings or div2k_settings()
    return [div2k.open_div2k(split, settings, str(mirror)) for split in ("train", "valid")]


@pytest.mark.parametrize("kind", ["archives", "images"])
def test_a_folder_with_archives_or_images_is_used_in_place(kind, archives, images, tmp_path):
    train, valid = sources(archives if kind == "archives" else images)
    assert [image.name for image in train.images] == ["0001", "0002", "0003"]
    assert [image.lr.key for image in valid.images] == ["0801x4.png", "0802x4.png"]
    expected = (images / "DIV2K_train_HR/0002.png").read_bytes()
    assert train.storage.read("0002.png") == expected
    assert train.images[1].hr.size == len(expected)
    assert isinstance(train.storage, ZipStorage) == (kind == "archives")
    assert not list((tmp_path / "node").rglob("*.zip"))


def test_archives_of_a_bucket_are_copied_once(archives, moto, bucket, tmp_path):
    for path in archives.iterdir():
        s3_client(moto).upload_file(str(path), bucket, f"mirror/{path.name}")
    train, _ = sources(f"s3://{bucket}/mirror")
    assert len(train.images) == 3
    copies = {path: path.stat().st_mtime_ns for path in (tmp_path / "node/div2k").iterdir()}
    assert sorted(path.name for path in copies if path.suffix == ".zip") == sorted(
        f"{name}.zip" for name in NAMES
    )
    sources(f"s3://{bucket}/mirror")
    assert copies == {path: path.stat().st_mtime_ns for path in copies}


def test_another_kernel_or_scale_has_no_published_lr(archives):
    train, _ = sources(archives, div2k_settings(kernel="opencv"))
    assert train.lr_storage is None
    train, _ = sources(archives, div2k_settings(scale=8))
    assert train.lr_storage is None


def test_an_archive_that_is_not_the_published_one_is_refused(archives, tmp_path):
    path = archives / "DIV2K_train_HR.zip"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"train_HR\.zip: expected sha256 \w+, found \w+"):
        sources(archives)
    with (
        website(archives) as (address, _),
        pytest.raises(UserError, match=rf"^{address}/.*train_HR\.zip: expected sha256 \w+, found"),
    ):
        sources(address)
    assert not (tmp_path / "node/div2k/DIV2K_train_HR.zip").exists()


def test_an_incomplete_set_is_refused(images, archives):
    (images / "DIV2K_train_HR/0002.png").unlink()
    with pytest.raises(UserError, match=r"lacks 1 of DIV2K's images, the first is 0002\.png"):
        sources(images)


def test_other_images_of_a_mirror_are_left_out(images, archives):
    shutil.copy(images / "DIV2K_valid_HR/0801.png", images / "DIV2K_train_HR/0801.png")
    train, _ = sources(f"{images}/")
    assert [image.name for image in train.images] == ["0001", "0002", "0003"]


def test_an_address_with_a_slash_at_its_end(archives):
    with website(archives) as (address, requests):
        sources(f"{address}/")
    assert requests == {f"/{name}.zip": 1 for name in NAMES}


def test_a_place_without_div2k_is_named(archives, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty: holds neither DIV2K_train_HR\.zip nor images"):
        sources(tmp_path / "empty")
    with (
        website(tmp_path / "empty") as (address, _),
        pytest.raises(UserError, match=r"404.*pass another --mirror"),
    ):
        sources(address)


@pytest.mark.usefixtures("ray_local")
def test_a_pair_that_does_not_fit_names_both_files(images, archives, tmp_path):
    lr = images / "DIV2K_train_LR_bicubic/X4"
    shutil.copy(images / "DIV2K_train_HR/0002.png", lr / "0002x4.png")
    with pytest.raises(UserError) as error:
        prepare(div2k_settings(), str(tmp_path / "out"), mirror=str(images))
    assert str(error.value).startswith(
        f"{images}/DIV2K_train_HR/0002.png: (120x96, RGB) is not 4 times {lr}/0002x4.png"
    )
    assert not (tmp_path / "out/manifest.json").exists()


@pytest.mark.usefixtures("ray_local")
def test_a_damaged_image_of_an_archive_is_named_and_the_others_go_on(
    archives, tmp_path, monkeypatch
):
    path = archives / "DIV2K_valid_HR.zip"
    content = bytearray(path.read_bytes())
    content[len(content) // 4] ^= 1  # within the first image
    path.write_bytes(content)
    publish(archives, monkeypatch)
    out = tmp_path / "out"
    with pytest.raises(UserError, match=r"valid_HR\.zip/DIV2K_valid_HR/0801\.png: does not read"):
        prepare(div2k_settings(), str(out), mirror=str(archives))
    assert (out / "valid/hr/0802.png").exists()
    assert not (out / "manifest.json").exists()
