"""DATA and RUN that commit 5456114 made are read, resumed and evaluated (see tests/data)."""

import csv
import json
import shutil
import tarfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from data_pipeline.images import decode_image
from data_pipeline.loading.patch_set import PatchSet
from data_pipeline.manifest import require_manifest
from data_pipeline.platform.storage import open_storage
from srgan.evaluation.run_reader import open_run
from srgan.generator_file import architecture, read_generator
from srgan.networks import generator
from tests.conftest import ROOT
from tests.data_pipeline.prepare.test_build import contents
from tests.integration.jobs import finish, last_step, records

SCORES = ("psnr_rgb", "psnr_y", "ssim_rgb", "ssim_y")
MADE = ROOT / "tests" / "data" / "made_by_5456114.tar.xz"


def unpack(folder: Path) -> Path:
    with tarfile.open(MADE) as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """What the old version left; tests must not change it."""
    return unpack(tmp_path_factory.mktemp("made"))


def patches(data: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    storage = open_storage(str(data))
    patch_set = PatchSet(storage, require_manifest(storage))
    return [patch_set.pair(number) for number in range(len(patch_set))]


@pytest.mark.parametrize("name", ["arrow", "tfrecord"])
def test_a_data_set_is_what_its_manifest_says(made, name):
    output = finish("prepare", "--verify", made / name)
    assert f"{made / name}: all 3 parts are what the manifest says" in output


def test_both_formats_hold_the_same_patches(made):
    arrow, tfrecord = (patches(made / name) for name in ("arrow", "tfrecord"))
    assert len(arrow) == len(tfrecord) == 14
    for pair, other_pair in zip(arrow, tfrecord, strict=True):
        for image, other in zip(pair, other_pair, strict=True):
            np.testing.assert_array_equal(image, other)


def test_a_generator_is_the_network_of_its_configuration(made):
    """Its file names no factor of the sub-pixel stages, which were all 2."""
    run = open_run(str(made / "run"))
    for key in ("generators/pretrain.keras", "generators/epoch-0001.keras"):
        network = generator(scale=4, **run.config.generator.model_dump())
        assert architecture(read_generator(run.storage, key)) == architecture(network)


@pytest.mark.parametrize(("data", "kernel"), [("arrow", "matlab"), ("gone", None)])
def test_a_run_has_the_scale_and_kernel_of_its_data_set(data, kernel, made, tmp_path):
    """It notes neither. Without its data set the generators tell the scale."""
    shutil.copytree(made / "run", tmp_path / "run")
    noted = tmp_path / "run/dataset.json"
    noted.write_text(noted.read_text().replace("/data/arrow", str(made / data)))
    run = open_run(str(tmp_path / "run"))
    assert (run.scale, run.kernel) == (4, kernel)
    identity = json.loads((made / "run/evaluation/arrow/protocol.json").read_text())["runs"]
    assert run.identity == identity["run"]["run sha256"]


class Continued(NamedTuple):
    """A copy of what the old version left, with RUN one epoch longer, and what that printed."""

    folder: Path
    output: str


@pytest.fixture(scope="module")
def continued(tmp_path_factory) -> Continued:
    folder = unpack(tmp_path_factory.mktemp("continued"))
    arguments = ["--config", folder / "config.yaml", "--data", folder / "arrow"]
    arguments += ["--run", folder / "run", "--set", "phases.gan.epochs=2"]
    return Continued(folder, finish("train", *arguments))


def test_a_run_goes_on_where_it_ended(made, continued):
    """As the old version itself went on, but for float32's rounding on another machine.

    Without the optimizers' slots the terms would differ by more than 1e-2.
    """
    run = continued.folder / "run"
    assert "starting at step 14\n" in continued.output
    assert last_step(run) == 21
    old, lines = records(made / "run"), records(run)
    assert lines[:-1] == old
    expected = records(made / "continued")[-1]
    for name in ("phase", "epoch", "step"):
        assert lines[-1][name] == expected[name]
    for name in ("mse", "adversarial", "generator_loss", "discriminator_loss", "d_hr", "d_sr"):
        assert lines[-1][name] == pytest.approx(expected[name], rel=1e-3)
    before, after = contents(made / "run"), contents(run)
    assert "generators/epoch-0002.keras" in after
    for name in before:
        if name.startswith(("generators", "samples", "tensorboard")):
            assert after[name] == before[name], name


def test_an_old_evaluation_goes_on_and_gets_the_new_measures(made, continued):
    """Its scores are made again, and are the same; its history stays."""
    run = continued.folder / "run"
    old, new = (folder / "evaluation/arrow" for folder in (made / "run", run))
    output = finish("evaluate", "--run", run, "--data", continued.folder / "arrow")
    assert "version with other measures (GFLOPs, Grid, LPIPS, Parameters): scored again" in output
    for path in (path for path in (old / "sr").rglob("*") if path.is_file()):
        again, expected = (
            decode_image(one.read_bytes()) for one in (new / path.relative_to(old), path)
        )
        assert np.abs(again.astype(int) - expected).max() <= 1
    rows, old_rows = (
        list(csv.DictReader((folder / "scores.csv").open(newline=""))) for folder in (new, old)
    )
    kept = [row for row in rows if row["epoch"] != "2"]
    for row, expected in zip(kept, old_rows, strict=True):
        assert (row["method"], row["epoch"]) == (expected["method"], expected["epoch"])
        for name in SCORES:
            assert float(row[name]) == pytest.approx(float(expected[name]), abs=2e-3)
    (row,) = (row for row in rows if row["epoch"] == "2")
    logged = records(run)[-1]
    for name in SCORES:
        assert float(row[name]) == pytest.approx(logged[f"validation_{name}"], abs=1e-4)
    psnr = (new / "psnr.csv").read_text().splitlines()
    assert len(psnr) == 3
    history = [json.loads(path.read_text()) for path in sorted((new / "history").iterdir())]
    assert [record["epoch"] for record in history] == [1, 2]
    assert all(float(row["lpips"]) >= 0 for row in csv.DictReader((new / "measures.csv").open()))
    assert (new / "report.html").stat().st_size > 0
