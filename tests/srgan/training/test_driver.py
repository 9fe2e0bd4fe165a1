"""What the driver checks before anything starts."""

import pytest

from data_pipeline.manifest import require_manifest
from data_pipeline.platform.errors import UserError
from data_pipeline.platform.storage import open_storage
from srgan.training.driver import check_run
from tests.srgan.session import config


@pytest.fixture
def check(small_data, tmp_path):
    """Checks a RUN that holds these generators and no checkpoint."""

    def check(*generators, epochs=1):
        run = open_storage(str(tmp_path / "run"))
        for name in generators:
            run.write(f"generators/{name}.keras", b"stored")
        data = open_storage(str(small_data))
        experiment = config("float32", "true")
        phases = {
            name: phase.model_copy(update={"epochs": epochs})
            for name, phase in experiment.phases.items()
        }
        experiment = experiment.model_copy(update={"phases": phases})
        return check_run(experiment, data, run, require_manifest(data))

    return check


@pytest.mark.parametrize(
    ("generators", "epochs"),
    [(("pretrain", "epoch-0001"), 1), (("epoch-0001",), 1), (("pretrain",), 2)],
)
def test_generators_whose_checkpoints_are_lost_are_not_trained_over(check, generators, epochs):
    with pytest.raises(UserError) as error:
        check(*generators, epochs=epochs)
    assert f"/run: holds generators (generators/{min(generators)}.keras) but no" in str(error.value)
    assert "put its checkpoints back, or choose another --run" in str(error.value)


def test_a_kill_before_the_first_checkpoint_loses_nothing(check):
    _, position = check("pretrain")
    assert position is None
