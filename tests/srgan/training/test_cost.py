"""What a dry run makes of what it measured."""

import json

import numpy as np
import pytest

from data_pipeline.loading.sampling import steps_per_epoch
from data_pipeline.manifest import require_manifest
from data_pipeline.platform.storage import open_storage
from srgan.config_file import parse_config
from srgan.training.dry_run import Cost, _shortened, measure, report
from srgan.training.phases import plan_phases
from srgan.training.rehearsal import is_enough, mean_range
from srgan.training.resources import Workers
from srgan.training.time_left import JOB_END_SECONDS

CONFIG = """
batch: {global_batch: 4, hr_crop: 32}
phases: {pretrain: {epochs: 2, losses: {mse: 1}}, gan: {steps: 4000, losses: {mse: 1}}}
"""
COST = Cost(
    step_seconds={"pretrain": [0.1] * 5, "gan": [0.8, 0.9, 1.0, 0.9, 0.9]},
    begin_seconds=30.0,
    save_seconds=0.5,
    validation_seconds=6.0,
    peak_host_bytes=2 << 30,
    peak_gpu_bytes=1 << 30,
    checkpoint_bytes=3_000_000,
    generator_bytes=500_000,
    sample_bytes=100_000,
)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ([1.0] * 4, False),  # too few
        ([1.0, 1.01, 1.0, 1.02, 1.0], True),
        ([1.0, 1.2, 1.0, 1.3, 1.1], False),
        ([1.0, 1.01, 1.0, 1.02, 9.0], False),  # a total has such steps too
        ([0.1, 0.9] * 24, False),
        ([0.1, 0.9] * 25, True),  # fifty steps
        ([10.0, 12.0, 10.0, 15.0, 14.0], True),  # a minute is over
    ],
)
def test_steps_are_timed_until_their_mean_is_known(seconds, expected):
    assert is_enough(seconds) == expected


def test_a_total_lies_in_its_range():
    """Every tenth step takes five times as long: a range of quartiles would never hold it."""
    random, held = np.random.default_rng(0), 0
    for _ in range(1000):
        steps = np.where(random.random(50) < 0.1, 5.0, 1.0) * random.uniform(0.9, 1.1, 50)
        low, _, high = mean_range(steps.tolist())
        held += low <= 1.4 <= high
    assert 900 <= held <= 990


def test_measurements_are_read_from_the_rehearsal(tmp_path):
    usual = {"peak_host_bytes": 5, "save_seconds": 0.1, "startup_seconds": 9.0}
    records = [
        {"phase": "pretrain", "step_seconds": [], **usual},
        # A small data set: a phase has several epochs, and its steps are told again.
        {
            "phase": "pretrain",
            "startup_seconds": 0.0,
            "step_seconds": [1.0],
            "validation_seconds": 3.0,
            **usual,
        },
        {"phase": "gan", "step_seconds": [2.0, 2.1], **usual, "startup_seconds": 20.0},
    ]
    rehearsal = open_storage(str(tmp_path))
    rehearsal.write("metrics.jsonl", "\n".join(map(json.dumps, records)).encode())
    for key, size in (
        ("checkpoints/1/a", 3),
        ("checkpoints/2/a", 3),
        ("checkpoints/2/b", 4),
        ("generators/pretrain.keras", 8),
        ("generators/epoch-0001.keras", 9),
        ("samples/epoch-0001.png", 6),
    ):
        rehearsal.write(key, b"x" * size)
    assert measure(rehearsal) == Cost(
        step_seconds={"pretrain": [1.0], "gan": [2.0, 2.1]},
        begin_seconds=20.0,
        save_seconds=0.1,
        validation_seconds=3.0,
        peak_host_bytes=5,
        peak_gpu_bytes=0,
        checkpoint_bytes=7,
        generator_bytes=9,
        sample_bytes=6,
    )


def test_what_is_left_of_a_run_is_told_for_all_gpus(small_data):
    settings = parse_config(CONFIG, "test")
    manifest = require_manifest(open_storage(str(small_data)))
    epoch = steps_per_epoch(manifest.num_patches, settings.batch.global_batch)
    phases = plan_phases(settings.phases, epoch)
    lines = report(
        settings,
        phases,
        step=phases[0].stop + 400,
        workers=Workers(least=2, most=2, cpus=1, gpus=4),
        cost=COST,
        manifest=manifest,
    )
    assert "steps timed: 5 of pretrain, 5 of gan" in lines[0]
    assert "pretrain: 0 steps of 0.1 s (two standard errors: 0.1 to 0.1 s): 0:00" in lines
    least, _, most = (3600 * one for one in mean_range(COST.step_seconds["gan"]))
    assert (
        "gan: 3600 steps of 0.9 s (two standard errors: 0.837 to 0.963 s): 50:12 to 57:48" in lines
    )
    # The phase has begun. Ends of epochs, the last validation and the job's end come on top.
    gan = phases[1]
    ends = 0.5 * (gan.epochs - 400 // epoch) + 6 + JOB_END_SECONDS
    least, most = least + ends, most + ends
    (line,) = (line for line in lines if line.startswith("time: "))
    hours = f"{8 * least / 3600:.1f} to {8 * most / 3600:.1f} GPU hours"
    assert f", {hours}, with compiling" in line
    minutes, seconds = divmod(round(least), 60)
    assert line.startswith(f"time: {minutes}:{seconds:02} to ")
    assert "memory: 2.1 GB of a worker's host, 1.1 GB of each GPU" in lines
    stored = 3 * 3_000_000 + gan.epochs * 500_000 + (2 + gan.epochs) * 100_000
    (line,) = (line for line in lines if line.startswith("storage: "))
    assert line == (
        f"storage: {stored / 1e6:.0f} MB: 3 checkpoints of 3.0 MB, {gan.epochs} generators of "
        f"500 kB, at most {2 + gan.epochs} sample pictures of 100 kB"
    )
    sr = sum((small_data / record.hr.path).stat().st_size for record in manifest.valid)
    (line,) = (line for line in lines if line.startswith("evaluation: "))
    assert f"the SR images of all {gan.epochs} epochs, {sr / 1000:.0f} kB each" in line


def test_a_dry_run_of_a_run_that_has_begun_reads_its_copies(tmp_path):
    """The files that were given may be gone."""
    run = open_storage(str(tmp_path))
    given = {"vgg_weights": "a.npz", "lpips_weights": "b.npz", "initial_generator": "c.keras"}
    config = parse_config(CONFIG, "test").model_copy(update=given)
    copies = dict(zip(given, ("vgg19.npz", "lpips_vgg16.npz", "initial.keras"), strict=True))
    for key in copies.values():
        run.write(key, b"stored")
    for begun, expected in (
        (None, given),
        (run, {name: f"{run.uri}/{key}" for name, key in copies.items()}),
    ):
        short = _shortened(config, begun=begun)
        assert {name: getattr(short, name) for name in given} == expected
