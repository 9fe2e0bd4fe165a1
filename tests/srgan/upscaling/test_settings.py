"""An OUTPUT belongs to one kind of settings."""

import json

import pytest

from data_pipeline.platform.errors import UserError
from data_pipeline.platform.storage import open_storage
from srgan.upscaling.settings import SETTINGS_KEY, Settings, claim, final_size

SETTINGS = Settings("/photos", "epoch 2", "ab" * 32, scale=4, outscale=4.0)


@pytest.fixture
def out(tmp_path):
    return open_storage(str(tmp_path / "out"))


def test_sizes_round_half_up_and_are_at_least_one_pixel():
    assert final_size(5, 7, 4.0) == (20, 28)
    assert final_size(5, 7, 1.5) == (8, 11)
    assert final_size(1, 3, 0.1) == (1, 1)


def test_a_claimed_output_has_its_settings_and_tells_what_is_there(out):
    assert claim(out, SETTINGS, ["a.png", "b.png"], overwrite=False) == {}
    assert json.loads(out.read(SETTINGS_KEY))["sha256"] == "ab" * 32
    for key in ("a.png", "other.png"):
        out.write(key, b"1")
    there = claim(out, SETTINGS, ["a.png", "b.png"], overwrite=False)
    assert there == {"a.png": {one.key: one.changed for one in out.list()}["a.png"]}


def test_other_settings_are_refused_and_named(out):
    claim(out, SETTINGS, ["a.png"], overwrite=False)
    before = out.read(SETTINGS_KEY)
    for change, message in (
        ({"outscale": 2.0}, r"\(outscale: 4.0, now 2.0\); pass --overwrite or another OUTPUT"),
        ({"sha256": "cd", "generator": "epoch 3"}, "generator: epoch 2, now epoch 3; sha256: ab"),
        ({"input": "/more"}, "input: /photos, now /more"),
    ):
        with pytest.raises(UserError, match=message):
            claim(out, SETTINGS._replace(**change), ["a.png"], overwrite=False)
    claim(out, SETTINGS._replace(generator="same.keras"), ["a.png"], overwrite=False)
    assert out.read(SETTINGS_KEY) == before


def test_pictures_that_are_not_this_commands_are_kept(out):
    out.write("a.png", b"mine")
    out.write("z.png", b"mine")
    with pytest.raises(UserError, match=r"out: holds a\.png already, and no upscale\.json"):
        claim(out, SETTINGS, ["a.png", "b.png"], overwrite=False)
    assert [one.key for one in out.list()] == ["a.png", "z.png"]


def test_overwrite_deletes_the_planned_results_alone(out):
    """Whatever a kill leaves, what is there was made by the settings that are there."""
    claim(out, SETTINGS, ["a.png"], overwrite=False)
    for key in ("a.png", "sub/b.png", "other.png"):
        out.write(key, b"1")
    new = SETTINGS._replace(outscale=2.0)
    assert claim(out, new, ["a.png", "sub/b.png"], overwrite=True) == {}
    assert [one.key for one in out.list()] == ["other.png", SETTINGS_KEY]
    assert claim(out, new, ["a.png"], overwrite=False) == {}


@pytest.mark.parametrize("text", [b"", b"[]", b"{"])
def test_settings_that_do_not_read(out, text):
    out.write(SETTINGS_KEY, text)
    with pytest.raises(UserError, match=r"out/upscale\.json: does not read as settings"):
        claim(out, SETTINGS, ["a.png"], overwrite=False)
