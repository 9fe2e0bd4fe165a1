"""What a run may change, and by which settings it is recognised."""

import json

import pytest

from srgan.config_file import load_config
from srgan.config_identity import differing_keys, fixed_settings, flatten
from tests.srgan.test_config import BASE


def test_differing_keys():
    old = load_config(BASE)
    new = load_config(BASE, ["seed=5", "generator.blocks=2"])
    assert differing_keys(old, old) == []
    assert differing_keys(old, new) == ["generator.blocks: 4, now 2", "seed: 0, now 5"]


def test_what_a_run_may_change():
    old = load_config(BASE)
    new = load_config(
        BASE,
        [
            "phases.pretrain.epochs=80",
            "checkpoints.keep=9",
            "failures.restarts=0",
            "steps_per_call=3",
            "validation_images=1",
        ],
    )
    assert differing_keys(old, new) == []
    longer = load_config(BASE, ["phases.pretrain.epochs=null", "phases.pretrain.steps=5"])
    assert differing_keys(old, longer) == []
    other = load_config(BASE, ["phases.pretrain.losses.l1=1"])
    assert differing_keys(old, other) == ["phases.pretrain.losses.l1: 0.0, now 1.0"]


@pytest.mark.parametrize(
    ("key", "default", "other"),
    [
        ("phases.pretrain.learning_rate.warmup_steps", 0, 9),
        ("phases.pretrain.losses.lpips", 0.0, 0.5),
        ("lpips_weights", None, "w.npz"),
        ("generator.prelu_slope", 0.25, 0.0),
        ("generator.direct_upsampling", False, True),
        ("generator.global_skip", False, True),
        ("discriminator.patch", False, True),
        ("discriminator.spectral_norm", False, True),
    ],
)
def test_runs_from_before_a_setting_stay_the_same_runs(key, default, other):
    """Their settings, which evaluation hashes, do not name it; another value makes another run."""
    old, new = load_config(BASE), load_config(BASE, [f"{key}={json.dumps(other)}"])
    assert key not in flatten(fixed_settings(old))
    assert flatten(fixed_settings(new))[key] == other
    assert differing_keys(old, new) == [f"{key}: {default}, now {other}"]
