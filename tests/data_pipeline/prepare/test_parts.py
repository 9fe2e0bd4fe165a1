"""One part of a data set, built in this process."""

import pickle
import shutil

import pytest

from data_pipeline.platform.storage import open_storage
from data_pipeline.prepare import parts
from data_pipeline.prepare.parts import Part, UnusableImagesError, build_part
from data_pipeline.prepare.sources import open_source
from tests.conftest import data_settings


@pytest.fixture
def build(photos, tmp_path):
    """Builds a shard of all images of a folder; returns its record and its bytes."""

    def call(source=photos, shard_format="arrow"):
        settings = data_settings(source, format=shard_format)
        part = Part("train/0", open_source(str(source), "train", scale=4), is_shard=True)
        built = build_part(part, settings, open_storage(str(tmp_path / "out")))
        return built.record, (tmp_path / "out" / built.record.path).read_bytes()

    return call


def test_all_bad_images_of_a_shard_are_named_also_after_the_way_from_a_worker(
    build, photos, tmp_path
):
    source = tmp_path / "source"
    shutil.copytree(photos, source)
    (source / "camera.png").write_text("no image")
    whole = (source / "rocket.png").read_bytes()
    (source / "rocket.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UnusableImagesError) as error:
        build(source)
    camera, rocket = pickle.loads(pickle.dumps(error.value)).problems
    assert camera.startswith(f"{source}/camera.png: does not decode")
    assert rocket.startswith(f"{source}/rocket.png: does not decode")
    assert open_storage(str(tmp_path / "out")).list() == []


def lose_last(chunk):
    return chunk[:-1]


def flip_lowest_bit_of_last(chunk):
    lr = chunk[-1].lr.copy()
    lr[-1, -1, -1] ^= 1
    return [*chunk[:-1], chunk[-1]._replace(lr=lr)]


def swap(chunk):
    return [chunk[1], chunk[0], *chunk[2:]]


@pytest.mark.parametrize("shard_format", ["arrow", "tfrecord"])
@pytest.mark.parametrize("spoil", [lose_last, flip_lowest_bit_of_last, swap])
def test_a_shard_that_does_not_read_back_is_not_stored(
    monkeypatch, build, tmp_path, shard_format, spoil
):
    original = parts.shard_writer

    def spoiled_writer(*arguments):
        writer = original(*arguments)
        write = writer.write
        writer.write = lambda name, chunk: write(name, spoil(chunk) if "rocket" in name else chunk)
        return writer

    monkeypatch.setattr(parts, "shard_writer", spoiled_writer)
    with pytest.raises(OSError, match=r"train/0\.\w+: what was written does not read back"):
        build(shard_format=shard_format)
    assert open_storage(str(tmp_path / "out")).list() == []


def test_pairs_beyond_the_kept_ones_are_decoded_twice_for_the_same_bytes(monkeypatch, build):
    decoded = []
    decode = parts.decode_image
    monkeypatch.setattr(parts, "decode_image", lambda data: decoded.append(1) or decode(data))
    expected = build()
    assert len(decoded) == 6
    decoded.clear()
    monkeypatch.setattr(parts, "_KEPT_BYTES", 40_000)  # room is left after the first, of 29,000
    assert build() == expected
    assert len(decoded) == 6 + 4
