"""Zip files of DIV2K's layout, whole, damaged and hostile."""

import pickle
import re
import stat
import struct
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from data_pipeline.images import decode_image, encode_png
from data_pipeline.platform.errors import UserError
from data_pipeline.platform.storage.archive import ZipStorage
from tests.conftest import photograph

NOISE = np.random.default_rng(0).bytes(5000)  # does not compress


@pytest.fixture(scope="session")
def pngs() -> list[bytes]:
    image = photograph("astronaut.png")[:, :, ::-1]
    return [encode_png(np.ascontiguousarray(image[top : top + 90, :80])) for top in (0, 100, 200)]


@pytest.fixture
def archive(tmp_path, pngs) -> Path:
    path = tmp_path / "DIV2K.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("DIV2K_train_HR/", b"")
        file.writestr("DIV2K_train_HR/0002.png", pngs[1])
        file.writestr("DIV2K_train_HR/0001.png", pngs[0])
        file.writestr("DIV2K_train_LR_bicubic/X4/0001x4.png", pngs[2])
        file.writestr("DIV2K_train_HRX/0003.png", b"")
    return path


def write(path: Path, *entries: tuple[zipfile.ZipInfo | str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in entries:
            file.writestr(name, data, zipfile.ZIP_DEFLATED)
    return path


def patch(path: Path, signature: bytes, offset: int, layout: str, *values) -> None:
    """Overwrites fields of the first header of that kind."""
    data = bytearray(path.read_bytes())
    struct.pack_into(layout, data, data.index(signature) + offset, *values)
    path.write_bytes(data)


LOCAL, CENTRAL, END = b"PK\3\4", b"PK\1\2", b"PK\5\6"


def test_images_are_read_in_place(archive, pngs):
    before = sorted(archive.parent.iterdir())
    storage = ZipStorage(archive)
    assert storage.uri == str(archive)
    assert [found[:2] for found in storage.list("DIV2K_train_HR/")] == [
        ("DIV2K_train_HR/0001.png", len(pngs[0])),
        ("DIV2K_train_HR/0002.png", len(pngs[1])),
    ]
    assert [found.key for found in storage.list()][2:] == [
        "DIV2K_train_HRX/0003.png",
        "DIV2K_train_LR_bicubic/X4/0001x4.png",
    ]
    assert storage.read("DIV2K_train_HR/0002.png") == pngs[1]
    assert storage.read("DIV2K_train_HRX/0003.png") == b""
    assert sorted(archive.parent.iterdir()) == before


def test_a_folder_of_the_archive(archive, pngs):
    hr = ZipStorage(archive, prefix="DIV2K_train_HR/")
    assert hr.uri == f"{archive}/DIV2K_train_HR"
    assert [found[:2] for found in hr.list()] == [
        ("0001.png", len(pngs[0])),
        ("0002.png", len(pngs[1])),
    ]
    assert [found.key for found in hr.list("0002")] == ["0002.png"]
    lr = ZipStorage(archive, prefix="DIV2K_train_LR_bicubic/X4/")
    assert [found.key for found in lr.list()] == ["0001x4.png"]
    image = decode_image(lr.read("0001x4.png"))
    np.testing.assert_array_equal(image, photograph("astronaut.png")[200:290, :80, ::-1])
    for key in ("0003.png", "DIV2K_train_HR/0001.png", "", "../DIV2K_train_HR/0001.png"):
        with pytest.raises(FileNotFoundError):
            hr.read(key)


def test_read_by_threads_and_elsewhere(archive, pngs):
    storage = pickle.loads(pickle.dumps(ZipStorage(archive, prefix="DIV2K_train_HR/")))
    assert len(pickle.dumps(storage)) < 1000  # no index
    keys = ["0001.png", "0002.png"] * 20
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(storage.read, keys)) == pngs[:2] * 20


@pytest.mark.parametrize(
    "name", ["../0001.png", "a/../../0001.png", "/etc/0001.png", "..", "a\\..\\0001.png", "C:\\x"]
)
def test_names_that_lead_elsewhere(tmp_path, name):
    path = write(tmp_path / "x.zip", ("0001.png", NOISE), (name, NOISE))
    with pytest.raises(UserError, match=re.escape(f"{path}: {name!r} has a name that leads out")):
        ZipStorage(path)


def test_a_name_with_a_nul(tmp_path):
    path = write(tmp_path / "x.zip", ("0001.pngX.exe", NOISE))
    path.write_bytes(path.read_bytes().replace(b"pngX", b"png\0"))
    with pytest.raises(UserError, match="has a name that leads out"):
        ZipStorage(path)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices(tmp_path, kind):
    entry = zipfile.ZipInfo("0001.png")
    entry.external_attr = (kind | 0o777) << 16
    path = write(tmp_path / "x.zip", (entry, b"/etc/passwd"))
    with pytest.raises(UserError, match=r"'0001.png' is a link or a device"):
        ZipStorage(path)


def test_an_encrypted_entry(tmp_path):
    path = write(tmp_path / "x.zip", ("0001.png", NOISE))
    patch(path, CENTRAL, 8, "<H", 1)
    with pytest.raises(UserError, match="is encrypted"):
        ZipStorage(path)


def test_an_unusual_compression(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_LZMA) as file:
        file.writestr("0001.png", NOISE)
    with pytest.raises(UserError, match="is neither stored nor deflated"):
        ZipStorage(tmp_path / "x.zip")


def test_zip_bombs(tmp_path, monkeypatch):
    path = write(tmp_path / "x.zip", ("0001.png", bytes(1_000_000)))
    with pytest.raises(UserError, match=r"'0001.png' inflates more than 200 times"):
        ZipStorage(path)
    write(path, ("0001.png", NOISE))
    patch(path, CENTRAL, 24, "<I", (512 << 20) + 1)
    with pytest.raises(UserError, match="has 536870913 bytes, more than 536870912"):
        ZipStorage(path)
    write(path, ("0001.png", NOISE), ("0002.png", NOISE))
    monkeypatch.setattr("data_pipeline.platform.storage.archive._MOST_ENTRIES", 1)
    with pytest.raises(UserError, match="has 2 entries, more than 1"):
        ZipStorage(path)


def test_overlapping_entries(tmp_path):
    path = write(tmp_path / "x.zip", ("0001.png", NOISE), ("0002.png", NOISE))
    patch(path, CENTRAL, 20, "<I", 6000)  # compressed size: into the second entry
    with pytest.raises(UserError, match=r"'0001.png' and '0002.png' overlap"):
        ZipStorage(path)


def test_a_name_that_is_there_twice(tmp_path):
    path = write(tmp_path / "x.zip", ("0001.png", NOISE), ("0002.png", NOISE))
    path.write_bytes(path.read_bytes().replace(b"0002.png", b"0001.png"))
    with pytest.raises(UserError, match=r"'0001.png' is there twice"):
        ZipStorage(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("position", [0, 100, 2500])
def test_a_damaged_entry(tmp_path, method, position):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", method) as file:
        file.writestr("0001.png", NOISE)
        file.writestr("0002.png", NOISE)
    data = bytearray(path.read_bytes())
    data[30 + len("0001.png") + position] ^= 0x06
    path.write_bytes(data)
    storage = ZipStorage(path)
    with pytest.raises(OSError, match="damaged in the archive") as error:
        storage.read("0001.png")
    assert error.value.strerror.startswith("damaged in the archive (")
    assert error.value.filename == f"{path}/0001.png"
    assert storage.read("0002.png") == NOISE


@pytest.mark.parametrize(
    ("signature", "offset", "layout", "value"),
    [
        (LOCAL, 0, "<H", 0),  # no header
        (LOCAL, 30, "<H", 0),  # another name
        (CENTRAL, 42, "<I", 5100),  # a header past the end
        (CENTRAL, 20, "<II", (9000, 9000)),  # a body past the end
    ],
)
def test_an_index_that_does_not_fit_the_entry(tmp_path, signature, offset, layout, value):
    entry = zipfile.ZipInfo("0001.png")
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as file:
        file.writestr(entry, NOISE)
    values = value if isinstance(value, tuple) else (value,)
    patch(tmp_path / "x.zip", signature, offset, layout, *values)
    storage = ZipStorage(tmp_path / "x.zip")
    with pytest.raises(OSError, match="damaged in the archive"):
        storage.read("0001.png")


def test_an_entry_without_a_name(tmp_path):
    path = write(tmp_path / "x.zip", ("x", NOISE))
    patch(path, CENTRAL, 28, "<HHH", 0, 0, 1)  # its name's byte becomes a comment
    with pytest.raises(UserError, match="'' has no name"):
        ZipStorage(path)


def test_a_name_that_is_no_text(tmp_path):
    path = write(tmp_path / "x.zip", ("é.png", NOISE))
    path.write_bytes(path.read_bytes().replace("é".encode(), b"\xff\xff"))
    with pytest.raises(UserError, match="is no zip file, or damaged"):
        ZipStorage(path)


@pytest.mark.parametrize("claimed", [100, 6000])
def test_an_index_that_lies_about_the_size(tmp_path, claimed):
    path = write(tmp_path / "x.zip", ("0001.png", NOISE))
    patch(path, CENTRAL, 24, "<I", claimed)
    storage = ZipStorage(path)
    assert [found[:2] for found in storage.list()] == [("0001.png", claimed)]
    with pytest.raises(OSError, match="damaged in the archive"):
        storage.read("0001.png")


def test_files_that_are_no_whole_archive(archive):
    data = archive.read_bytes()
    fix = "is no zip file, or damaged or cut short .*; delete it and run the same command again"
    for wrong in (b"", b"<html>not found</html>", data[:1000], data[:-10]):
        archive.write_bytes(wrong)
        with pytest.raises(UserError, match=fix):
            ZipStorage(archive)
    archive.write_bytes(data[1000:])
    with pytest.raises(UserError, match=r"'DIV2K_train_HR/' begins before the file does"):
        ZipStorage(archive)
    with pytest.raises(UserError, match=r"none.zip: does not read: No such file"):
        ZipStorage(archive.parent / "none.zip")


def test_damage_anywhere_ends_in_one_line(archive):
    """Every byte of the index is spoilt in turn: nothing but the two promised errors."""
    data = archive.read_bytes()
    for position in range(data.index(CENTRAL), len(data)):
        spoilt = bytearray(data)
        spoilt[position] ^= 0xFF
        archive.write_bytes(spoilt)
        with suppress(UserError, OSError):
            storage = ZipStorage(archive)
            for found in storage.list():
                storage.read(found.key)
