import pytest

from srgan.config import LearningRateConfig
from srgan.training.schedule import rate_schedule

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
