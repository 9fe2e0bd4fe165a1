"""A RUN with an evaluation that has pictures of all methods, without a network; and its study."""

from pathlib import Path

import cv2
import numpy as np

from data_pipeline.images import encode_png
from data_pipeline.platform.hashing import sha256_hex
from data_pipeline.platform.storage import open_storage
from srgan.evaluation.benchmark import Benchmark, baselines, folder_benchmark
from srgan.evaluation.score_files import ScoreFile, write_score_file
from srgan.evaluation.score_task import sr_key
from srgan.evaluation.table import ImageScore
from srgan.study.make import StudySettings, make_study
from tests.conftest import photograph

SETTINGS = StudySettings("acr", 4, 64, 7, 0)

_CONFIG = b"""
phases:
  pretrain: {epochs: 1, losses: {mse: 1}}
  gan: {epochs: 2, losses: {mse: 1, adversarial: 0.001}}
"""


def evaluated_run(folder: Path, side: int = 128) -> tuple[Benchmark, str]:
    """The benchmark and the RUN. SRResNet is a mean of bicubic and HR; SRGAN has noise on it."""
    (folder / "photos").mkdir(parents=True)
    for name, top, left in (("astronaut", 0, 160), ("coffee", 100, 200), ("chelsea", 20, 100)):
        photo = photograph(f"{name}.png")[top : top + side, left : left + side]
        cv2.imwrite(str(folder / "photos" / f"{name}.png"), photo)
    benchmark = folder_benchmark(str(folder / "photos"), None, scale=4, kernel="matlab")
    run = open_storage(str(folder / "run"))
    run.write("config.yaml", _CONFIG)
    run.write(
        "dataset.json", b'{"uri": "x", "manifest_sha256": "a", "scale": 4, "kernel": "matlab"}'
    )
    out = open_storage(f"{run.uri}/evaluation/photos")
    protocol = benchmark.with_sha256().protocol()
    rng = np.random.default_rng(0)
    for name, method, epoch in (
        ("baselines", "bicubic", None),
        ("srresnet", "srresnet", None),
        ("epoch-0001", "srgan", 1),
        ("epoch-0002", "srgan", 2),
    ):
        scores = [ImageScore(epoch, method, one.name, {}) for one in benchmark.hr]
        sha256 = "" if name == "baselines" else sha256_hex(name.encode())
        write_score_file(out, ScoreFile(name, protocol, sha256, scores))
        for number, one in enumerate(benchmark.hr):
            pair = benchmark.pair(number)
            sr = (baselines(pair, "matlab")["bicubic"] / 2 + pair.hr / 2).astype(np.float64)
            if epoch:
                sr += rng.normal(0, 4 * epoch, sr.shape)
            out.write(sr_key(name, one.name), encode_png(np.clip(sr, 0, 255).astype(np.uint8)))
    return benchmark, run.uri


def made_study(folder: Path, settings: StudySettings = SETTINGS, side: int = 128) -> Path:
    """A study of such a RUN."""
    benchmark, run = evaluated_run(folder, side)
    make_study(benchmark, run, folder / "study", None, settings)
    return folder / "study"
