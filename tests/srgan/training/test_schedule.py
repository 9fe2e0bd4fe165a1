import pytest

from srgan.config import LearningRateConfig
from srgan.training.schedule import rate_of, rate_schedule

STEPS, WARMUP = 100, 20


@pytest.mark.parametrize(
    ("decay", "shares"),
    [
        # Of `initial`: in the warm-up at its steps 0, half and last; then 20, 49, 50 and the end.
        ("constant", [0.05, 0.55, 1, 1, 1, 1, 1]),
        ("drop", [0.05, 0.55, 1, 1, 1, 0.1, 0.1]),
        ("cosine", [0.05, 0.55 * 0.97553, 0.91354, 0.90451, 0.51571, 0.5, 0]),
    ],
)
def test_warm_up(decay, shares):
    rate = LearningRateConfig(initial=4e-4, decay=decay, warmup_steps=WARMUP)
    schedule = rate_schedule(rate, STEPS)
    rates = [float(schedule(step)) for step in (0, 10, 19, 20, 49, 50, STEPS)]
    assert rates == pytest.approx([4e-4 * share for share in shares], rel=1e-4, abs=1e-12)


def test_without_a_warm_up_a_constant_rate_is_a_number():
    """Adam keeps it in a variable, which the checkpoints of old runs hold."""
    assert rate_schedule(LearningRateConfig(initial=3e-4), STEPS) == 3e-4


@pytest.mark.parametrize(
    ("decay", "warmup", "step", "expected"),
    [
        ("constant", 0, 99, 1e-4),
        ("constant", 20, 9, 5e-5),
        ("drop", 0, 49, 1e-4),  # the last step before the drop
        ("drop", 0, 50, 1e-5),
        ("drop", 20, 19, 1e-4),
        ("cosine", 0, 0, 1e-4),
        ("cosine", 0, 50, 5e-5),
        ("cosine", 0, 99, 2.4672e-8),  # not 0: the phase's last step trains
    ],
)
def test_the_rate_of_one_step(decay, warmup, step, expected):
    rate = LearningRateConfig(initial=1e-4, decay=decay, warmup_steps=warmup)
    found = rate_of(rate, STEPS, step)
    assert found == pytest.approx(expected, rel=2e-2 if expected < 1e-6 else 1e-6)
    if decay != "cosine":
        assert len(repr(found)) < 9  # 0.0001, not float32's 9.999999747378752e-05
