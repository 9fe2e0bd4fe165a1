from srgan.config_file import load_config
from srgan.training.phases import phase_of, plan_phases
from tests.conftest import ROOT

EPOCH_STEPS = 2037  # DIV2K at 480/240, batch 16


def plan(name):
    return plan_phases(load_config(ROOT / "configs" / name).phases, EPOCH_STEPS)


def test_the_paper_has_a_million_updates_and_then_two_hundred_thousand():
    pretrain, gan = plan("paper.yaml")
    assert (pretrain.start, pretrain.stop) == (0, 1_000_000)
    assert (gan.start, gan.stop) == (1_000_000, 1_200_000)
    assert (pretrain.is_last, gan.is_last) == (False, True)
    assert gan.epochs == 99  # 98 whole ones and a cut one
    assert gan.epoch_stop(98) == 1_000_000 + 98 * EPOCH_STEPS
    assert gan.epoch_stop(99) == 1_200_000


def test_a_hundred_epochs_are_the_two_hundred_thousand_updates():
    _, gan = plan("div2k_100_epochs.yaml")
    assert gan.epochs == 100
    assert 2e5 < gan.steps < 2.05e5


def test_a_border_belongs_to_the_phase_before_it():
    phases = plan("div2k_100_epochs.yaml")
    pretrain, gan = phases
    assert phase_of(phases, 0) is pretrain
    assert phase_of(phases, pretrain.stop) is pretrain
    assert phase_of(phases, pretrain.stop + 1) is gan
    assert phase_of(phases, gan.stop) is gan


def test_the_epoch_of_a_step():
    pretrain, gan = plan("paper.yaml")
    for phase in (pretrain, gan):
        assert phase.epoch_of(phase.start) == 1
        assert phase.epoch_of(phase.epoch_stop(7) - 1) == 7
        assert phase.epoch_of(phase.epoch_stop(7)) == 8
        assert phase.epoch_of(phase.stop - 1) == phase.epochs
