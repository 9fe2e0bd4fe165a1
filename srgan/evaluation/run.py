"""Scores the baselines and a run's generators on a benchmark; adds what is new."""

import json
import logging
from collections.abc import Callable, Sequence

import keras
import numpy as np
import numpy.typing as npt

from data_pipeline.errors import UserError, differences
from data_pipeline.images import encode_png
from data_pipeline.imresize import Kernel, enlarge_nearest, imresize
from data_pipeline.manifest import sha256_hex
from data_pipeline.progress import Progress
from data_pipeline.storage import Storage, open_storage
from srgan.config import fixed_settings, parse_config
from srgan.evaluation.benchmark import Benchmark, Pair, score_pair, upscale_pair
from srgan.evaluation.comparison import Panel, comparison_picture, comparison_row
from srgan.evaluation.table import (
    BICUBIC,
    HR,
    NEAREST,
    SRGAN,
    ImageScore,
    read_scores,
    write_scores,
    write_tables,
)
from srgan.run_layout import CONFIG_KEY, DATASET_KEY, GENERATORS, generator_epoch, generator_key
from srgan.upscale import load_generator

Image = npt.NDArray[np.uint8]

_PICTURE_ROWS = 4

_log = logging.getLogger(__name__)


def evaluate(
    benchmark: Benchmark,
    *,
    run_uri: str | None,
    out_uri: str | None,
    epochs: Sequence[int] | None,
    kernel: Kernel,
) -> str:
    """Scores what has no scores yet.

    Args:
        benchmark: The images.
        run_uri: RUN whose generators to score; None scores the baselines alone.
        out_uri: Where the results go; None means RUN/evaluation/<benchmark's name>.
        epochs: Epochs to score; None means all that RUN has.
        kernel: Of the bicubic baseline, and of the LR images where none are given.

    Returns:
        The URI of the results.

    Raises:
        UserError: If an image, a generator or an epoch is missing or wrong, or the results there
            were made by another protocol. Epochs scored before are kept.
    """
    run = open_storage(run_uri) if run_uri else None
    if out_uri is None and run is None:
        raise UserError("--out is missing: without --run there is no other place for the results")
    wanted = _epochs(run, epochs) if run else []
    out = open_storage(out_uri or f"{run.uri}/evaluation/{benchmark.name}")  # type: ignore[union-attr]
    protocol = {
        "images": f"{benchmark.name}, {len(benchmark.hr)}",
        "images sha256": benchmark.digest(),
        "scale": benchmark.scale,
        "LR": benchmark.lr_kernel or "given",
        "kernel": kernel,
        "border": f"{benchmark.scale} px cut",
        "rounding": "SR rounded to uint8",
        "PSNR": "per image, then the mean; Y is 16 to 235; a grey image on its own values",
        "SSIM": "11x11 Gaussian, sigma 1.5, whole windows",
        "run sha256": _run_identity(run) if run else "none",
    }
    old_protocol, scores = read_scores(out)
    if old_protocol is not None and old_protocol != protocol:
        changed = "; ".join(differences(old_protocol, protocol))
        raise UserError(
            f"{out.uri}: was made by another protocol ({changed}); choose another --out"
        )
    done = {row.epoch for row in scores if row.method == SRGAN}
    new = [epoch for epoch in wanted if epoch not in done]
    if scores and not new:
        _log.info("%s: already complete, nothing to score", out.uri)
    total = len(benchmark.hr) * (len(new) + (0 if scores else 1))
    with Progress("evaluate", total, "images") as progress:
        if not scores:
            scores = _score_baselines(benchmark, kernel, out, progress)
            write_scores(out, protocol, scores)
        for epoch in new:
            assert run is not None
            network = load_generator(run, generator_key(epoch))
            scores += _score_generator(
                network, epoch, benchmark=benchmark, kernel=kernel, out=out, progress=progress
            )
            write_scores(out, protocol, scores)
    write_tables(out, protocol, scores)  # even if nothing is new: a kill may have left them out
    return out.uri


def _epochs(run: Storage, epochs: Sequence[int] | None) -> list[int]:
    """The epochs to score: those asked for, else all generators of RUN, ascending."""
    found = [generator_epoch(stored.key) for stored in run.list(GENERATORS)]
    stored = [epoch for epoch in found if epoch is not None]
    if not stored:
        raise UserError(f"{run.uri}: holds no generator; train it with jobs.train")
    missing = sorted(set(epochs or ()) - set(stored))
    if missing:
        raise UserError(f"{run.uri}: holds no generator of epoch {missing[0]}; it has {stored}")
    return sorted(set(epochs)) if epochs else stored


def _run_identity(run: Storage) -> str:
    """sha256 over what the run never changes: tells RUNs apart, wherever they lie."""
    try:
        data_set = json.loads(run.read(DATASET_KEY))["manifest_sha256"]
        config = parse_config(run.read(CONFIG_KEY).decode(), f"{run.uri}/{CONFIG_KEY}")
    except OSError as error:
        raise UserError(f"{run.uri}: lacks {CONFIG_KEY} or {DATASET_KEY}; pass a RUN") from error
    return sha256_hex(json.dumps(fixed_settings(config)).encode() + data_set.encode())


Upscale = Callable[[Pair], Image]


def _baselines(scale: int, kernel: Kernel) -> dict[str, Upscale]:
    return {
        NEAREST: lambda pair: enlarge_nearest(pair.lr, scale),
        BICUBIC: lambda pair: imresize(pair.lr, scale, kernel),
        HR: lambda pair: pair.hr,
    }


def _score_baselines(
    benchmark: Benchmark, kernel: Kernel, out: Storage, progress: Progress
) -> list[ImageScore]:
    methods = _baselines(benchmark.scale, kernel)
    scores, rows = [], []
    for number in range(len(benchmark.hr)):
        pair = benchmark.pair(number)
        images = {method: upscale(pair) for method, upscale in methods.items()}
        scores += [
            ImageScore(None, method, pair.name, score_pair(pair, image))
            for method, image in images.items()
        ]
        if number < _PICTURE_ROWS:
            panels = [Panel(method, images[method]) for method in (NEAREST, BICUBIC)]
            rows.append(comparison_row(panels, pair.hr))
        progress.advance()
    out.write("comparison.png", encode_png(comparison_picture(rows)))
    return scores


def _score_generator(
    network: keras.Model,
    epoch: int,
    *,
    benchmark: Benchmark,
    kernel: Kernel,
    out: Storage,
    progress: Progress,
) -> list[ImageScore]:
    methods = _baselines(benchmark.scale, kernel)
    scores, rows = [], []
    for number in range(len(benchmark.hr)):
        pair = benchmark.pair(number)
        sr = upscale_pair(network, pair)
        scores.append(ImageScore(epoch, SRGAN, pair.name, score_pair(pair, sr)))
        out.write(f"sr/epoch-{epoch:04}/{pair.name}.png", encode_png(sr))
        if number < _PICTURE_ROWS:
            panels = [Panel(method, methods[method](pair)) for method in (NEAREST, BICUBIC)]
            rows.append(comparison_row([*panels, Panel("SRGAN", sr)], pair.hr))
        progress.advance()
    out.write(f"comparison/epoch-{epoch:04}.png", encode_png(comparison_picture(rows)))
    return scores
