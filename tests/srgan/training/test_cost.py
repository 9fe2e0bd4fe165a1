"""What a dry run makes of what it measured."""

from data_pipeline.loading.sampling import steps_per_epoch
from data_pipeline.manifest import require_manifest
from data_pipeline.platform.storage import open_storage
from srgan.config_file import parse_config
from srgan.training.dry_run import Cost, report, steady_seconds
from srgan.training.phases import plan_phases
from srgan.training.resources import Workers

CONFIG = """
batch: {global_batch: 4, hr_crop: 32}
phases: {pretrain: {epochs: 2, losses: {mse: 1}}, gan: {steps: 4000, losses: {mse: 1}}}
"""


def test_steps_are_timed_without_the_first_call_of_a_phase():
    usual = {"outside_seconds_per_step": 0.5}
    first = {"phase": "pretrain", "step": 3, "seconds": 12.5, "first_call_seconds": 9.0, **usual}
    assert steady_seconds([first]) == {"pretrain": 1.0}  # (12.5 - 1.5 - 9) / 2
    one_step_an_epoch = [
        {"phase": "pretrain", "step": 1, "seconds": 9.5, "first_call_seconds": 9.0, **usual},
        {"phase": "pretrain", "step": 2, "seconds": 1.5, **usual},
        {"phase": "pretrain", "step": 3, "seconds": 1.5, **usual},
        {"phase": "gan", "step": 6, "seconds": 27.5, "first_call_seconds": 20.0, **usual},
    ]
    assert steady_seconds(one_step_an_epoch) == {"pretrain": 1.0, "gan": 3.0}


def test_what_is_left_of_a_run_is_told_for_all_gpus(small_data):
    settings = parse_config(CONFIG, "test")
    manifest = require_manifest(open_storage(str(small_data)))
    epoch = steps_per_epoch(manifest.num_patches, settings.batch.global_batch)
    phases = plan_phases(settings.phases, epoch)
    cost = Cost({"pretrain": 0.1, "gan": 0.9}, 2 << 30, 1 << 30, 3_000_000, 500_000)
    lines = report(
        settings,
        phases,
        step=phases[0].stop + 400,
        workers=Workers(least=2, most=2, cpus=1, gpus=4),
        cost=cost,
        manifest=manifest,
    )
    assert "pretrain: 0 steps of 0.1 s: 0:00" in lines
    assert "gan: 3600 steps of 0.9 s: 54:00" in lines
    assert any(line.startswith("time: 54:00 of steps, 7.2 GPU hours; ") for line in lines)
    assert "memory: 2.1 GB of a worker's host, 1.1 GB of each GPU" in lines
