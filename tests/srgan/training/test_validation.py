"""Scores and picture of whole images, against the evaluation's own; the thread that makes them."""

import json
import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
import tensorflow as tf

from data_pipeline.images import as_rgb
from data_pipeline.imresize import imresize
from data_pipeline.platform.storage import open_storage
from srgan.evaluation.benchmark import data_benchmark, folder_benchmark
from srgan.evaluation.grid import grid
from srgan.evaluation.perceptual import lpips_value
from srgan.evaluation.psnr_ssim import score
from srgan.metrics_log import MetricsLog, read_metrics
from srgan.networks import generator
from srgan.training.failures import LostRunError
from srgan.training.lease import hold_lease
from srgan.training.phases import Phase
from srgan.training.state import dtype_policy
from srgan.training.totals import FinishedEpoch
from srgan.training.validation import ValidationImages, Validator
from srgan.upscale import super_resolve
from tests.conftest import PATIENCE, photograph

DEVICE = "CPU:1"  # not TensorFlow's own choice


@pytest.fixture(scope="module")
def benchmark(small_data):
    return data_benchmark(str(small_data), None)


@pytest.fixture(scope="module")
def network():
    return generator(blocks=1, filters=4)


@pytest.mark.parametrize("kernel", ["matlab", "opencv"])
def test_the_scores_are_means_over_the_images(valid_photos, network, kernel):
    """Bicubic's by the kernel that made LR."""
    benchmark = folder_benchmark(str(valid_photos), None, scale=4, kernel=kernel)
    found = ValidationImages(benchmark, 2).examine(network).scores
    pairs = [benchmark.pair(number) for number in range(2)]
    made = {
        "validation": [super_resolve(network, pair.lr) for pair in pairs],
        "bicubic": [imresize(pair.lr, 4, kernel) for pair in pairs],
    }
    assert len(found) == 2 * 6
    for method, images in made.items():
        scores = [
            score(pair.hr, image, border=4)._asdict()
            | lpips_value(pair.hr, image, border=4)
            | {"grid": grid(pair.hr, image, scale=4)}
            for pair, image in zip(pairs, images, strict=True)
        ]
        for field in scores[0]:
            mean = np.mean([one[field] for one in scores])
            assert found[f"{method}_{field}"] == pytest.approx(mean, abs=1e-4)


def test_the_picture_shows_nearest_sr_and_hr(benchmark, network):
    picture = ValidationImages(benchmark, 9).examine(network).picture
    assert picture.shape == (3 * 160, 3 * 160, 3)  # there are three images
    pair = benchmark.pair(0)
    height, width = (min(160, side) for side in pair.hr.shape[:2])
    top, left = (pair.hr.shape[0] - height) // 2, (pair.hr.shape[1] - width) // 2
    shown = picture[:height, 2 * width : 3 * width]
    np.testing.assert_array_equal(shown, as_rgb(pair.hr)[top : top + height, left : left + width])


def test_no_image_no_scores(benchmark, network):
    assert ValidationImages(benchmark, 0).examine(network) == ({}, "", None)


class HeldImages(ValidationImages):
    """Their examination lasts until `go_on`. `begun` counts, `devices` are the generator's."""

    def __init__(self, benchmark):
        super().__init__(benchmark, 1)
        self.begun, self.go_on = threading.Semaphore(0), threading.Event()

    def examine(self, generator):
        outputs = generator(tf.zeros([1, 8, 8, 3]))
        self.devices = {tensor.device[-5:] for tensor in (outputs, generator.weights[0].value)}
        self.begun.release()
        assert self.go_on.wait(PATIENCE)
        return super().examine(generator)


class Validated:
    """A run whose epochs have one step each, and its Validator."""

    def __init__(self, folder, images, network, lease):
        self.run, self.network = open_storage(str(folder)), network
        self.metrics = MetricsLog(self.run, step=0)
        self.validator = Validator(
            images, network, DEVICE, run=self.run, lease=lease, metrics=self.metrics
        )

    def begin(self, number):
        record = {"phase": "gan", "epoch": number, "step": number, "time": 1.0, "mse": 0.5}
        self.metrics.append(record)
        weights = [number * value for value in self.network.get_weights()]
        phase = Phase("gan", None, 0, 9, 1, is_last=True)
        self.validator.begin(FinishedEpoch(phase, number, record), weights)

    def validated(self):
        """The epochs whose lines have scores, and those with a picture."""
        lines = read_metrics(self.run)
        assert [line["epoch"] for line in lines] == list(range(1, len(lines) + 1))
        pictures = [item.key for item in self.run.list("samples/")]
        scored = [line["epoch"] for line in lines if "validation_psnr_y" in line]
        assert pictures == [f"samples/epoch-{epoch:04}.png" for epoch in scored]
        return scored


@pytest.fixture
def images(benchmark):
    return HeldImages(benchmark)


@pytest.fixture
def run(tmp_path, images, network):
    with hold_lease(open_storage(str(tmp_path))) as lease:
        yield Validated(tmp_path, images, network, lease)
    images.go_on.set()


@pytest.mark.parametrize(("is_run_end", "expected"), [(False, [1]), (True, [1, 3])])
def test_an_epoch_that_ends_meanwhile_is_left_out(run, images, caplog, is_run_end, expected):
    """But for the last one at the run's end. Scores come into the line of their epoch."""
    with caplog.at_level(logging.INFO):
        run.begin(1)
        assert images.begun.acquire(timeout=PATIENCE)
        run.begin(2)
        run.begin(3)  # neither has waited: the first still lasts
        images.go_on.set()
        run.validator.finish(is_run_end=is_run_end)
    assert run.validated() == expected
    for epoch in (2, 3):
        assert f"gan epoch {epoch}: not validated, since the validation before it" in caplog.text
    line = read_metrics(run.run)[expected[-1] - 1]
    assert line["mse"] == 0.5
    with_weights = [expected[-1] * value for value in run.network.get_weights()]
    clone = generator(blocks=1, filters=4)
    clone.set_weights(with_weights)
    scores, _, picture = images.examine(clone)
    assert scores.items() <= line.items()
    written = run.run.read(f"samples/epoch-{expected[-1]:04}.png")
    decoded = cv2.imdecode(np.frombuffer(written, np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(decoded[..., ::-1], picture)


def test_the_next_epoch_is_validated_again(run, images):
    images.go_on.set()
    run.begin(1)
    run.validator.finish(is_run_end=False)
    run.begin(2)
    run.validator.finish(is_run_end=True)
    assert run.validated() == [1, 2]
    assert images.devices == {DEVICE}


def test_after_a_failed_training_nothing_is_written(run, images):
    run.begin(1)
    run.validator.give_up()
    images.go_on.set()
    run.validator.finish(is_run_end=False)
    assert run.validated() == []


def test_a_run_that_was_taken_over_is_left_alone(run, images):
    run.begin(1)
    run.run.write("lease/000009.json", b"{}")
    images.go_on.set()
    with pytest.raises(LostRunError, match="another training has taken it over"):
        run.validator.finish(is_run_end=True)
    assert run.validated() == []


def test_a_validation_that_fails_is_left_out_and_the_training_goes_on(
    run, images, monkeypatch, caplog
):
    def fail(_):
        raise tf.errors.ResourceExhaustedError(None, None, "out of memory\nand more")

    monkeypatch.setattr(images, "examine", fail)
    run.begin(1)
    run.validator.finish(is_run_end=True)
    assert run.validated() == []
    assert "gan epoch 1: not validated: ResourceExhaustedError: out of memory" in caplog.text


def test_a_large_image_under_half_precision(tmp_path, network):
    """It goes through parts of the network, which are built then: not in bfloat16."""
    (tmp_path / "hr").mkdir()
    cv2.imwrite(str(tmp_path / "hr" / "wide.png"), photograph("astronaut.png")[:64].repeat(2, 1))
    benchmark = folder_benchmark(str(tmp_path / "hr"), None, scale=4, kernel="matlab")
    expected = ValidationImages(benchmark, 1).examine(network).scores
    images = HeldImages(benchmark)
    with hold_lease(open_storage(str(tmp_path))) as lease, dtype_policy("mixed_bfloat16"):
        run = Validated(tmp_path, images, network, lease)
        run.begin(1)
        run.begin(2)
        images.go_on.set()
        run.validator.finish(is_run_end=True)
    (first, last) = read_metrics(run.run)
    assert expected.items() <= first.items()
    assert "validation_psnr_y" in last


def test_a_picture_that_bicubic_reproduces_has_no_score(tmp_path, network, caplog):
    """Its line has null, which every reader takes, and the log names it."""
    (tmp_path / "hr").mkdir()
    cv2.imwrite(str(tmp_path / "hr/black.png"), np.zeros((48, 48, 3), np.uint8))
    benchmark = folder_benchmark(str(tmp_path / "hr"), None, scale=4, kernel="matlab")
    images = HeldImages(benchmark)
    images.go_on.set()
    with caplog.at_level(logging.INFO), hold_lease(open_storage(str(tmp_path))) as lease:
        run = Validated(tmp_path, images, network, lease)
        run.begin(1)
        run.validator.finish(is_run_end=True)
    assert "gan epoch 1: validation PSNR – dB (Y –), LPIPS 0." in caplog.text
    text = "grid –; bicubic – (–), 0.0000, leaving out 1 of 1 images without a finite PSNR: black"
    assert text in caplog.text
    (line,) = run.run.read("metrics.jsonl").splitlines()
    record = json.loads(line, parse_constant=pytest.fail)
    assert record["validation_psnr_rgb"] is record["bicubic_psnr_y"] is None
    assert (record["bicubic_ssim_y"], record["bicubic_lpips"]) == (1, 0)
    assert record["validation_grid"] is None  # the picture is too small
    (events,) = (item.key for item in run.run.list("tensorboard/validation/"))
    _, event = tf.data.TFRecordDataset(f"{run.run.uri}/{events}")
    tags = {one.tag for one in tf.compat.v1.Event.FromString(event.numpy()).summary.value}
    assert {
        "validation/validation_lpips",
        "validation/bicubic_ssim_y",
        "validation/samples",
    } <= tags
    assert "validation/bicubic_psnr_y" not in tags


def test_lines_of_older_versions_may_hold_infinity(tmp_path):
    run = open_storage(str(tmp_path))
    run.write("metrics.jsonl", b'{"step": 1, "bicubic_psnr_y": Infinity, "d_hr": NaN}\n')
    metrics = MetricsLog(run, step=1)
    metrics.append({"step": 2, "bicubic_psnr_y": None})
    lines = [{"step": 1, "bicubic_psnr_y": None, "d_hr": None}, {"step": 2, "bicubic_psnr_y": None}]
    assert read_metrics(run) == lines
    assert b"Infinity" not in run.read("metrics.jsonl")
    with pytest.raises(ValueError, match="not JSON compliant"):
        metrics.append({"step": 3, "mse": float("inf")})


def test_lines_of_several_threads_are_all_there(tmp_path):
    run = open_storage(str(tmp_path))
    metrics = MetricsLog(run, step=0)
    with ThreadPoolExecutor(2) as threads:
        for step in range(20):
            metrics.append({"step": step})
            threads.submit(metrics.complete, step, {"score": step})
    assert read_metrics(run) == [{"step": step, "score": step} for step in range(20)]
