"""The command from end to end, with a tiny generator on this process's Ray."""

import json
import os
import zipfile
from pathlib import Path

import keras
import numpy as np
import PIL.Image
import pytest

from data_pipeline.imresize import imresize
from data_pipeline.platform.storage import open_storage
from jobs import upscale
from srgan.generator_file import save_generator
from srgan.networks import generator
from srgan.run_layout import generator_key
from srgan.upscale import super_resolve
from tests.conftest import assert_refused, photograph

pytestmark = pytest.mark.usefixtures("ray_local")

COLOUR, GREY, ALPHA, DEEP = "b c.png", "grey.png", "sub/alpha.webp", "sub/ä ö 図.jpg"
GOOD = (COLOUR, GREY, ALPHA, DEEP)
BAD, EMPTY, NO_TEXT = "sub/bad.png", "empty.tif", "sub/caf\udce9.png"  # of Latin-1, say


@pytest.fixture(scope="module")
def network() -> keras.Model:
    keras.utils.set_random_seed(1)
    return generator(blocks=1, filters=4, batch_norm=False, global_skip=True)


@pytest.fixture(scope="module")
def run(network, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    save_generator(network, open_storage(str(folder)), generator_key(2))
    return folder


@pytest.fixture
def photos(tmp_path) -> Path:
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    chelsea = photograph("chelsea.png")[60:100, 100:150, ::-1]
    disc = np.full((*chelsea.shape[:2], 1), 255, np.uint8)
    disc[:10] = 0
    PIL.Image.fromarray(chelsea).save(folder / COLOUR)
    PIL.Image.fromarray(photograph("camera.png")[100:131, 150:180]).save(folder / GREY)
    image = PIL.Image.fromarray(np.concatenate([chelsea, disc], axis=2))
    image.save(folder / ALPHA, lossless=True, exact=True)
    PIL.Image.fromarray(chelsea[:20]).save(folder / DEEP, quality=95)
    (folder / BAD).write_bytes((folder / COLOUR).read_bytes()[:-900])
    (folder / EMPTY).touch()
    return folder


def pixels(path: Path) -> np.ndarray:
    with PIL.Image.open(path) as image:
        return np.asarray(image).astype(int)


def versions(out: Path) -> dict[str, int]:
    """Every file's time of its last change."""
    found = (path for path in out.rglob("*") if path.is_file())
    return {str(path.relative_to(out)): path.stat().st_mtime_ns for path in found}


def test_a_folder_from_end_to_end(command, caplog, run, network, photos, tmp_path):
    out = tmp_path / "out"
    arguments = ("--run", run, photos, out)
    (photos / NO_TEXT).write_bytes((photos / COLOUR).read_bytes())

    done = command(upscale, *arguments)
    named = (f"{BAD}: ", f"{EMPTY}: ", r"'sub/caf\udce9.png': is no printable name; rename it")
    assert_refused(done, "3 of 7 pictures were not upscaled: ", *named)
    first = versions(out)
    assert first.keys() == {*GOOD, "upscale.json"}

    expected = super_resolve(network, pixels(photos / COLOUR).astype(np.uint8)).astype(int)
    assert np.abs(pixels(out / COLOUR) - expected).max() <= 1
    grey = pixels(photos / GREY)[..., None].repeat(3, axis=2).astype(np.uint8)
    expected = super_resolve(network, grey).mean(axis=2)
    assert np.abs(pixels(out / GREY) - expected).max() <= 1.5
    lr_alpha = pixels(photos / ALPHA)[..., 3:].astype(np.uint8)
    expected = imresize(lr_alpha, 4)[..., 0].astype(int)
    assert np.abs(pixels(out / ALPHA)[..., 3] - expected).max() <= 1
    assert pixels(out / DEEP).shape == (80, 200, 3)

    (photos / EMPTY).unlink()
    (photos / NO_TEXT).unlink()
    (photos / BAD).write_bytes((photos / COLOUR).read_bytes())
    os.utime(photos / GREY, (2e9, 2e9))
    caplog.clear()
    done = command(upscale, *arguments)
    assert done.code == 0, done
    assert done.out.endswith(f"upscaled 1 picture(s) (4 were there), x4, epoch-0002: {out}\n")
    assert f"1 inputs are newer than their results ({GREY}): --overwrite" in caplog.text
    second = versions(out)
    assert second == first | {BAD: second[BAD]}
    assert (out / BAD).read_bytes() == (out / COLOUR).read_bytes()

    (out / "sub" / f".{'0a' * 6}.partial").write_bytes(b"of a killed call")
    done = command(upscale, *arguments)
    assert done.out.endswith(f"{out}: complete, nothing to do\n")
    done = command(upscale, *arguments, "--outscale", 1.5)
    assert_refused(done, "was made with other settings (outscale: 4.0, now 1.5); pass --overwrite")
    assert versions(out) == second

    done = command(upscale, *arguments, "--outscale", 1.5, "--overwrite")
    assert done.code == 0, done
    assert pixels(out / COLOUR).shape == (60, 75, 3)
    assert pixels(out / ALPHA).shape == (60, 75, 4)
    assert json.loads((out / "upscale.json").read_text())["outscale"] == 1.5


def test_one_format_for_all(command, caplog, run, photos, tmp_path):
    """A picture that the format cannot hold is named; opaque transparency is no reason."""
    for name in (BAD, EMPTY, GREY, DEEP):
        (photos / name).unlink()
    image = PIL.Image.open(photos / COLOUR).convert("RGBA")
    image.save(photos / "opaque.png")
    arguments = ("--run", run, photos, tmp_path / "out", "--ext", "jpg", "--quality", 90)
    with caplog.at_level("INFO"):
        done = command(upscale, *arguments)
    assert_refused(done, f"1 of 3 pictures were not upscaled: {ALPHA}: has transparency")
    assert versions(tmp_path / "out").keys() == {"b c.jpg", "opaque.jpg", "upscale.json"}
    assert pixels(tmp_path / "out/opaque.jpg").shape == (160, 200, 3)
    assert "of quality 90 (--quality)" in caplog.text


def test_one_picture(command, run, network, photos, tmp_path):
    out = tmp_path / "big.png"
    arguments = ("--weights", run / generator_key(2), photos / COLOUR, out)
    left = tmp_path / f".{'0a' * 6}.partial"
    left.write_bytes(b"of a killed call")
    done = command(upscale, *arguments)
    assert done.out.endswith(f"upscaled 1 picture(s), x4, epoch-0002: {out}\n")
    assert not left.exists()
    data = out.read_bytes()
    out.write_bytes(b"mine")
    done = command(upscale, *arguments)
    assert (done.code, done.out) == (0, f"{out}: is there already; --overwrite makes it anew\n")
    assert out.read_bytes() == b"mine"
    assert command(upscale, *arguments, "--overwrite").code == 0
    assert out.read_bytes() == data
    assert sorted(path.name for path in tmp_path.iterdir()) == ["big.png", "photos"]


def test_weights_of_another_network_are_refused_before_work(command, photos, tmp_path):
    """A Keras file of no generator, and one whose layers are no layers."""
    layer = keras.layers.Conv2D(3, 1, name="flat")
    keras.Sequential([keras.Input((None, None, 3)), layer]).save(tmp_path / "flat.keras")
    with zipfile.ZipFile(tmp_path / "odd.keras", "w") as archive:
        archive.writestr("config.json", '{"config": {"layers": [{}]}}')
    for name, words in (("flat", "does not enlarge"), ("odd", "is no generator that Keras can")):
        done = command(upscale, "--weights", tmp_path / f"{name}.keras", photos, tmp_path / "out")
        assert_refused(done, f"{name}.keras: {words}")
    assert not (tmp_path / "out").exists()
