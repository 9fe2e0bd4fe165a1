"""What a run may change, and by which settings it is recognised."""

from srgan.config_file import load_config
from srgan.config_identity import differing_keys, fixed_settings
from tests.srgan.test_config import DEMO


def test_differing_keys():
    old = load_config(DEMO)
    new = load_config(DEMO, ["seed=5", "generator.blocks=2"])
    assert differing_keys(old, old) == []
    assert differing_keys(old, new) == ["generator.blocks: 4, now 2", "seed: 0, now 5"]


def test_what_a_run_may_change():
    old = load_config(DEMO)
    new = load_config(
        DEMO,
        [
            "phases.pretrain.epochs=80",
            "checkpoints.keep=9",
            "failures.restarts=0",
            "steps_per_call=3",
            "validation_images=1",
        ],
    )
    assert differing_keys(old, new) == []
    longer = load_config(DEMO, ["phases.pretrain.epochs=null", "phases.pretrain.steps=5"])
    assert differing_keys(old, longer) == []
    other = load_config(DEMO, ["phases.pretrain.losses.l1=1"])
    assert differing_keys(old, other) == ["phases.pretrain.losses.l1: 0.0, now 1.0"]


def test_runs_from_before_the_warm_up_stay_the_same_runs():
    rate = fixed_settings(load_config(DEMO))["phases"]["pretrain"]["learning_rate"]
    assert rate.keys() == {"initial", "decay"}
    warm = load_config(DEMO, ["phases.pretrain.learning_rate.warmup_steps=9"])
    assert len(differing_keys(load_config(DEMO), warm)) == 1
