import pytest

from data_pipeline.platform.errors import UserError
from srgan.config import differing_keys
from srgan.config_file import dump_config, load_config, parse_config
from tests.conftest import ROOT

DEMO = ROOT / "configs" / "demo.yaml"


def test_every_config_that_ships_is_valid():
    files = list((ROOT / "configs").glob("*.yaml"))
    assert DEMO in files
    for file in files:
        load_config(file)


def test_dump_reads_back():
    config = load_config(DEMO)
    assert parse_config(dump_config(config), "dump") == config


def test_overrides_are_yaml_and_floats_may_lack_a_point():
    config = load_config(
        DEMO,
        [
            "phases.pretrain.learning_rate.initial=3e-4",
            "generator.batch_norm=true",
            "batch.global_batch=8",
        ],
    )
    assert config.phases["pretrain"].learning_rate.initial == 3e-4
    assert config.generator.batch_norm is True
    assert config.batch.global_batch == 8


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "batch.global_bach=8",
            r"unknown key batch\.global_bach; did you mean batch\.global_batch\?",
        ),
        (
            "batch.global_batch=eight",
            r"batch\.global_batch: input should be a valid integer, got 'ei",
        ),
        ("batch.global_batch=8.5", r"batch\.global_batch: input should be a valid integer"),
        (
            "batch.global_batch=0",
            r"batch\.global_batch: input should be greater than or equal to 1",
        ),
        ("generator.batch_norm=1", r"generator\.batch_norm: input should be a valid boolean"),
        (
            "precision=float16",
            r"precision: input should be 'float32', 'mixed_bfloat16' or 'float64'",
        ),
        ("seed=4294967296", "seed: input should be less than or equal to 4294967295"),
        ("phases.pretrain.learning_rate.initial=.inf", "should be a finite number"),
        ("phases.pretrain.epoch=3", r"unknown key phases\.pretrain\.epoch; did you mean"),
        ("phases.pretrain.losses.mse=0", "one of mse, l1, vgg22 and vgg54 must be above 0"),
        ("phases.pretrain.steps=5", "pass either epochs or steps"),
        ("phases.Gan.epochs=1", r"phases\.Gan.*should match pattern"),
        ("batch.global_batch", "expected KEY=VALUE"),
        ("seed.deep=1", "seed is not a section"),
        ("seed=[", "is not YAML"),
    ],
)
def test_a_wrong_value_is_named(override, message):
    with pytest.raises(UserError, match=message) as error:
        load_config(DEMO, [override])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 0", "the key phases is missing"),
        ("phases: {}", "should have at least 1 item"),
        ("phases: {}\nphases: {}", "the key phases is given twice"),
        ("- 1", "valid dictionary"),
    ],
)
def test_a_wrong_file_is_named(text, message):
    with pytest.raises(UserError, match=message):
        parse_config(text, "file")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"no\.yaml: No such file"):
        load_config(tmp_path / "no.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match=r"binary\.yaml: is not UTF-8"):
        load_config(tmp_path / "binary.yaml")


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
