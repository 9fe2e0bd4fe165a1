"""The three jobs at every scale: a data set, a run, its scores on DATA and on a folder."""

import csv
import shutil
from fractions import Fraction

import cv2
import numpy as np
import pytest

from data_pipeline.images import decode_image
from data_pipeline.imresize import imresize
from jobs import evaluate, prepare, train
from srgan.evaluation.psnr_ssim import score
from tests.conftest import ROOT, assert_refused, photograph
from tests.integration.jobs import records

SMALL = ("generator.blocks=1", "generator.filters=8", "batch.global_batch=2")
SMALL = (*SMALL, "batch.hr_crop=48", "phases.pretrain.epochs=1")


@pytest.mark.slow
@pytest.mark.usefixtures("ray_local")
@pytest.mark.parametrize(
    ("scale", "kernel"),
    [
        (3, "opencv"),
        (2, "opencv"),
        (8, "matlab"),
    ],
)
def test_the_jobs_at_every_scale(command, tmp_path, photos, valid_photos, scale, kernel):
    """One kernel and one scale from prepare on; nothing names them again."""
    data, run, folder = tmp_path / "data", tmp_path / "run", tmp_path / "Set/HR"
    sizes = ("--scale", scale, "--kernel", kernel, "--patch-size", 48, "--stride", 48)
    given = ("--source", photos, "--valid-source", valid_photos, "--out", data)
    assert command(prepare, *given, *sizes).code == 0
    settings = [option for setting in SMALL for option in ("--set", setting)]
    config = ("--config", ROOT / "tests/srgan/config_base.yaml", *settings)
    assert command(train, *config, "--data", data, "--run", run).code == 0
    (line,) = records(run)
    shown = cv2.imread(str(run / "samples/epoch-0001.png"))
    assert shown.shape == (3 * 40 * scale, 3 * 40 * scale, 3)

    def scores(name):
        with (run / f"evaluation/{name}/scores.csv").open(newline="") as file:
            return {row["method"]: row for row in csv.DictReader(file)}

    assert command(evaluate, "--run", run).code == 0
    for field in ("psnr_rgb", "psnr_y", "ssim_rgb", "ssim_y"):  # the training's own scores
        for method, logged in (("srgan", "validation"), ("bicubic", "bicubic")):
            assert float(scores("data")[method][field]) == line[f"{logged}_{field}"]

    folder.mkdir(parents=True)
    hr = photograph("chelsea.png")[60 : 60 + 8 * scale, 120 : 120 + 9 * scale]
    cv2.imwrite(str(folder / "c.png"), hr)
    assert command(evaluate, "--run", run, "--hr", folder).code == 0
    lr = imresize(hr, Fraction(1, scale), kernel)
    expected = score(hr[..., ::-1], imresize(lr, scale, kernel)[..., ::-1], border=scale)
    made = scores("Set")
    assert float(made["bicubic"]["psnr_y"]) == pytest.approx(expected.psnr_y, abs=1e-4)
    sr = decode_image((run / "evaluation/Set/sr/epoch-0001/c.png").read_bytes())
    assert sr.shape == hr.shape

    shutil.rmtree(run / "evaluation")
    given = ("--run", run, "--hr", folder, "--lr", tmp_path / "LR")
    (tmp_path / "LR").mkdir()
    cv2.imwrite(str(tmp_path / f"LR/cx{scale}.png"), lr)
    assert command(evaluate, *given).code == 0
    assert scores("Set") == made
    np.testing.assert_array_equal(
        decode_image((run / "evaluation/Set/sr/epoch-0001/c.png").read_bytes()), sr
    )
    assert_refused(command(evaluate, *given, "--scale", 4), f"is a run of x{scale}; leave --scale")
