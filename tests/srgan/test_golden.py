"""The losses of each phase's first steps are kept: a change of numerics shows as a diff.

After a change that is meant to alter them, `python -m tests.srgan.test_golden` writes
golden/*/*.json anew.
"""

import json
import tarfile
import tempfile
from pathlib import Path

import keras
import numpy as np
import pytest

from srgan.config_file import parse_config
from tests.conftest import ROOT
from tests.srgan.session import Session, limit_devices

FOLDER = Path(__file__).parent / "golden"
DATA = ROOT / "tests" / "data" / "made_by_5456114.tar.xz"
STEPS = 20
# Of the commits before `prelu_slope`, whose slopes began at 0; and of the other options.
GENERATORS = {
    "slope_0": "{blocks: 2, filters: 8, prelu_slope: 0, icnr: true}",
    "direct": "{blocks: 2, filters: 8, direct_upsampling: true, global_skip: true}",
}
CONFIG = """
seed: 5
precision: float64
generator: GENERATOR
discriminator: {filters: 4, dense: 8}
batch: {global_batch: 4, hr_crop: 16, permute_colours: true}
phases:
  pretrain:
    steps: 20
    losses: {mse: 1, l1: 0.1}
    learning_rate: {initial: 1e-3}
  gan:
    steps: 20
    losses: {mse: 1, adversarial: 1e-3, total_variation: 1e-2}
    learning_rate: {initial: 1e-3, decay: drop}
    clip_norm: 1e-1
"""


def losses(name: str) -> dict[str, dict[str, np.ndarray]]:
    """Every term of the first steps, [steps], by phase and name; the GAN follows the pretraining.

    On a data set that is stored as bytes: no decoder and no resizing has a say in them.
    """
    with tempfile.TemporaryDirectory() as folder, tarfile.open(DATA) as archive:
        archive.extractall(folder, filter="data")
        session = Session(
            Path(folder, "arrow"),
            parse_config(CONFIG.replace("GENERATOR", GENERATORS[name]), "golden"),
            1,
        )
        pretrain = session.terms(0, STEPS)
        session.begin("gan")
        return {"pretrain": pretrain, "gan": session.terms(STEPS, 2 * STEPS)}


@pytest.fixture
def _restore_precision():
    yield
    keras.config.set_dtype_policy("float32")
    keras.config.set_floatx("float32")


@pytest.mark.parametrize("name", GENERATORS)
@pytest.mark.usefixtures("_restore_precision")
def test_the_losses_of_the_first_steps_are_as_ever(name):
    """1e-9 is wide for rounding and narrow for a change.

    Moving every variable by a relative e before every step moved the terms by 260 e at most. So
    1e-9 allows each step an error of 35,000 roundings of float64 in every variable, more than any
    order of its sums can make; with one and four threads 1e-13 was seen.
    """
    found = losses(name)
    assert {path.stem for path in (FOLDER / name).iterdir()} == set(found)
    for phase, terms in found.items():
        rows = [
            json.loads(line) for line in (FOLDER / name / f"{phase}.json").read_text().splitlines()
        ]
        assert [list(row) for row in rows] == [list(terms)] * STEPS
        for term, values in terms.items():
            expected = [row[term] for row in rows]
            np.testing.assert_allclose(
                values, expected, rtol=1e-9, atol=1e-12, err_msg=f"{phase}: {term}"
            )


def main() -> None:
    """Writes the files: a line for every step."""
    limit_devices()
    for name in GENERATORS:
        for phase, terms in losses(name).items():
            columns = [values.tolist() for values in terms.values()]
            rows = [dict(zip(terms, row, strict=True)) for row in zip(*columns, strict=True)]
            text = "".join(f"{json.dumps(row)}\n" for row in rows)
            (FOLDER / name / f"{phase}.json").write_text(text)


if __name__ == "__main__":
    main()
