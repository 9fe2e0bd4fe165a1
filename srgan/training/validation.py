"""A run's progress after every epoch: scores and a picture of a few whole images."""

import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from data_pipeline.images import Image, encode_png
from data_pipeline.platform.storage import Storage
from srgan.evaluation.benchmark import Benchmark, Pair, baselines, score_pair, upscale_pair
from srgan.evaluation.comparison import centre_row
from srgan.evaluation.grid import grid
from srgan.evaluation.measures import MEASURES, taken
from srgan.evaluation.perceptual import lpips_value
from srgan.evaluation.psnr_ssim import can_be_scored
from srgan.evaluation.table import (
    BICUBIC,
    SRGAN,
    ImageScore,
    cell,
    images_left_out,
    mean_values,
    some_names,
)
from srgan.metrics_log import MetricsLog
from srgan.run_layout import samples_key, tensorboard_key
from srgan.training.failures import LostRunError
from srgan.training.lease import Lease
from srgan.training.tensorboard import write_tensorboard
from srgan.training.totals import FinishedEpoch

Weights = Sequence[npt.NDArray[np.generic]]

_MEASURES = ("psnr_rgb", "psnr_y", "ssim_rgb", "ssim_y", "lpips", "grid")

_log = logging.getLogger(__name__)


class Examination(NamedTuple):
    """A generator's scores beside bicubic's, and its picture.

    Attributes:
        scores: Means over the images: `validation_psnr_rgb` in dB, `bicubic_psnr_rgb` and so on,
            those of jobs.evaluate on these images and this generator. None where no image has a
            finite value by every method. Empty without images.
        text: PSNR, LPIPS and the grid for people, with the images that PSNR's means leave out; ""
            without images.
        picture: uint8 RGB: `centre_row` of every image; None without images.
    """

    scores: dict[str, float | None]
    text: str
    picture: Image | None


class ValidationImages:
    """The first few validation images of a data set, in memory, and the baselines' scores."""

    def __init__(self, benchmark: Benchmark, count: int) -> None:
        """Reads at most `count` images; those that are too small to be scored are only shown."""
        self._kernel = benchmark.kernel
        self._pairs = [benchmark.pair(number) for number in range(min(count, len(benchmark.hr)))]
        self._scored = [pair for pair in self._pairs if can_be_scored(pair.hr, border=pair.scale)]
        self._baselines: list[ImageScore] | None = None

    def examine(self, generator: keras.Model) -> Examination:
        """Scores and shows a generator."""
        images = {pair.name: upscale_pair(generator, pair) for pair in self._pairs}
        if self._baselines is None:
            self._baselines = [
                _score(pair, method, image)
                for pair in self._scored
                for method, image in baselines(pair, self._kernel).items()
            ]
        made = [_score(pair, SRGAN, images[pair.name]) for pair in self._scored]
        scores, text = _compare([*made, *self._baselines], len(made)) if made else ({}, "")
        rows = [centre_row(pair, images[pair.name]) for pair in self._pairs]
        return Examination(scores, text, np.concatenate(rows) if rows else None)


class Validator:
    """Validates epochs in a thread of its own. The training never waits for it.

    It shares the training's device, whose steps are slower meanwhile. A validation that fails is
    logged and left out: the training does not depend on it.

    There is one validation at a time. An epoch that ends while another one is validated is left
    out, but for the run's last one. Keras's dtype policy is a thread's own: here it is float32,
    whatever the training computes in.
    """

    def __init__(
        self,
        images: ValidationImages,
        generator: keras.Model,
        device: str,
        *,
        run: Storage,
        lease: Lease,
        metrics: MetricsLog,
    ) -> None:
        """Clones the generator for this thread, onto TensorFlow's `device`, which upscales."""
        with tf.device(device):
            self._generator = keras.models.clone_model(generator)
        self._images, self._device = images, device
        self._run, self._lease, self._metrics = run, lease, metrics
        self._thread = ThreadPoolExecutor(1, "validate")
        self._running: Future[None] | None = None
        self._left_out: tuple[FinishedEpoch, Weights] | None = None
        self._writing = threading.Lock()
        self._is_given_up = False

    def begin(self, epoch: FinishedEpoch, weights: Weights) -> None:
        """Begins to validate an epoch, whose line is in the log, or leaves it out.

        Args:
            epoch: The epoch.
            weights: Of its generator, in the order of the generator's variables.

        Raises:
            LostRunError: If a validation before this one found the run lost.
        """
        if self._running and not self._running.done():
            self._left_out = epoch, weights
            text = "%s epoch %d: not validated, since the validation before it still runs"
            _log.info(text, epoch.phase.name, epoch.epoch)
            return
        self._wait()
        self._left_out = None
        self._running = self._thread.submit(self._validate, epoch, weights)

    def finish(self, *, is_run_end: bool) -> None:
        """Waits for the validation that runs; at the run's end validates a last epoch left out."""
        self._wait()
        if is_run_end and self._left_out:
            self._thread.submit(self._validate, *self._left_out).result()

    def give_up(self) -> None:
        """From now on nothing is written: the training has failed and may begin again."""
        with self._writing:
            self._is_given_up = True

    def _wait(self) -> None:
        if self._running:
            self._running.result()

    def _validate(self, epoch: FinishedEpoch, weights: Weights) -> None:
        try:
            self._examine(epoch, weights)
        except LostRunError:
            raise
        except Exception as error:
            text = "%s epoch %d: not validated: %s: %s"
            kind = type(error).__name__
            _log.warning(text, epoch.phase.name, epoch.epoch, kind, str(error).split("\n", 1)[0])

    def _examine(self, epoch: FinishedEpoch, weights: Weights) -> None:
        began = time.monotonic()
        with tf.device(self._device):
            for variable, value in zip(self._generator.variables, weights, strict=True):
                variable.assign(value)
            found = self._images.examine(self._generator)
        seconds = round(time.monotonic() - began, 3)
        with self._writing:
            if not self._is_given_up:
                self._write(epoch, found, seconds)

    def _write(self, epoch: FinishedEpoch, found: Examination, seconds: float) -> None:
        phase, number, record = epoch
        self._lease.check()
        if found.picture is None:
            return
        key = samples_key(number, None if phase.is_last else phase.name)
        self._run.write(key, encode_png(found.picture))
        scores = found.scores
        if scores:
            scores = scores | {"validation_seconds": seconds}
            self._metrics.complete(record["step"], scores)
        of_epoch = {name: record[name] for name in ("phase", "step", "time")}
        key = tensorboard_key(record["step"], validation=True)
        write_tensorboard(
            of_epoch | scores, self._run, key, group="validation", picture=found.picture
        )
        if scores:
            _log.info("%s epoch %d: validation %s", phase.name, number, found.text)


def _score(pair: Pair, method: str, image: Image) -> ImageScore:
    values = {
        **score_pair(pair, image)._asdict(),
        **lpips_value(pair.hr, image, border=pair.scale),
        **taken(grid=grid(pair.hr, image, scale=pair.scale)),
    }
    return ImageScore(None, method, pair.name, values)


def _compare(scores: Sequence[ImageScore], num_images: int) -> tuple[dict[str, float | None], str]:
    """The generator's and bicubic's means, by their names in metrics.jsonl, and in a phrase."""
    left_out = images_left_out(scores)
    means = mean_values(scores, left_out)
    sr, bicubic = means[SRGAN, None], means[BICUBIC, None]
    named = {
        f"{name}_{key}": round(values[key], 4) if key in values else None
        for name, values in (("validation", sr), ("bicubic", bicubic))
        for key in _MEASURES
    }
    rgb, y, lpips, grids = (
        measure for measure in MEASURES if measure.key in ("psnr_rgb", "psnr_y", "lpips", "grid")
    )
    text = (
        f"PSNR {cell(sr, rgb)} dB (Y {cell(sr, y)}), LPIPS {cell(sr, lpips)}, "
        f"grid {cell(sr, grids)}; bicubic {cell(bicubic, rgb)} ({cell(bicubic, y)}), "
        f"{cell(bicubic, lpips)}"
    )
    if images := sorted({*left_out.get("psnr_rgb", ()), *left_out.get("psnr_y", ())}):
        text += (
            f", leaving out {len(images)} of {num_images} images without a finite PSNR: "
            f"{some_names(images)}"
        )
    return named, text
