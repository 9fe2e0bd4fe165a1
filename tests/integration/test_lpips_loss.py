"""A run whose loss is LPIPS: two workers, and a longer phase without the file of weights."""

import numpy as np
import pytest

from tests.integration.jobs import finish, last_step, records
from tests.srgan.test_network_losses import lpips_weights


@pytest.mark.slow
def test_a_run_reads_its_own_copy_of_the_weights(small_data, tmp_path):
    config, source, run = (tmp_path / name for name in ("lpips.yaml", "lpips.npz", "run"))
    config.write_text(
        "generator: {blocks: 1, filters: 4, direct_upsampling: true, global_skip: true}\n"
        "generator_average: 0.9\nbatch: {global_batch: 16, hr_crop: 16}\n"
        "phases: {gan: {epochs: 1, losses: {lpips: 1, adversarial: 1.0e-3}}}\n"
    )
    np.savez(source, **lpips_weights())
    given = ["--config", config, "--data", small_data, "--run", run, "--num-workers", 2]
    given += ["--set", f"lpips_weights={source}"]
    finish("train", *given)
    source.unlink()
    steps = last_step(run)
    finish("train", *given, "--set", "phases.gan.epochs=2")
    assert last_step(run) == 2 * steps
    for record in records(run):
        assert record["lpips"] > 0
        assert record["generator_loss"] == pytest.approx(
            record["lpips"] + 1e-3 * record["adversarial"], rel=1e-4
        )
    with np.load(run / "lpips_vgg16.npz") as kept:
        assert all(np.array_equal(kept[key], value) for key, value in lpips_weights().items())
