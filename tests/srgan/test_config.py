import copy
import hashlib
import json
import math
import re
from pathlib import Path

import jsonschema
import pytest
from ray import cloudpickle
from ruamel.yaml import YAML

from data_pipeline.platform.errors import UserError
from srgan.config import Config
from srgan.config_file import dump_config, load_config, parse_config
from srgan.config_identity import fixed_settings
from srgan.config_schema import schema_text
from tests.conftest import ROOT

CONFIGS = ROOT / "configs"
DEMO = CONFIGS / "demo.yaml"
FILES = sorted(CONFIGS.glob("*.yaml"))
BASE = Path(__file__).parent / "config_base.yaml"
BY_PYYAML = Path(__file__).parent / "config_by_pyyaml.yaml"
LOSSES = "{losses: {mse: 1}, steps: 1}"


def read_yaml(file):
    return YAML(typ="safe", pure=True).load(file)


def test_a_schema_for_editors_is_what_the_model_says():
    stored = (CONFIGS / "schema.json").read_text()
    assert stored == schema_text(), "run: python -m srgan.config_schema > configs/schema.json"
    definitions = json.loads(stored)
    for section in (definitions, *definitions["$defs"].values()):
        for name, field in section["properties"].items():
            assert field["description"].endswith("."), name
            assert "\n" not in field["description"], name


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_config_that_ships_is_valid_and_headed(file):
    load_config(file)
    jsonschema.validate(read_yaml(file), json.loads(schema_text()))
    named, *header = file.read_text().partition("\nseed:")[0].splitlines()
    assert named == "# yaml-language-server: $schema=schema.json"
    text = "\n".join(header)
    assert f"python -m jobs.train --config configs/{file.name} " in text
    assert re.search(r"# Hours: .*\n(.*\n)*# Score: .*dB", text)


def test_the_large_batch_follows_its_rule():
    """The square root of the batch's growth, as many epochs, 5 of them with warm-up."""
    patches = 32_592
    base = load_config(CONFIGS / "div2k_100_epochs.yaml")
    large = load_config(CONFIGS / "large_batch.yaml")
    rule = {}
    for batch in (128, 256, 512, 1024):
        growth = math.sqrt(batch / base.batch.global_batch)
        rule[batch] = (growth, patches // batch, 5 * (patches // batch))
    growth, _, warmup = rule[large.batch.global_batch]
    assert large.phases.keys() == base.phases.keys()
    for name, phase in large.phases.items():
        rate = base.phases[name].learning_rate
        scaled = {"initial": pytest.approx(growth * rate.initial), "warmup_steps": warmup}
        assert phase.learning_rate.model_dump() == rate.model_dump() | scaled
        rest = {"learning_rate": None}
        assert phase.model_copy(update=rest) == base.phases[name].model_copy(update=rest)
    table = re.findall(
        r"^\| (\d+) \| ([\d.e-]+) \| (\d+) \| (\d+) \|$",
        (ROOT / "docs/train.md").read_text(),
        re.MULTILINE,
    )
    assert {int(batch): tuple(map(float, row)) for batch, *row in table} == {
        batch: (pytest.approx(1e-4 * growth, rel=2e-3), steps, warmup)
        for batch, (growth, steps, warmup) in rule.items()
    }


def test_the_benchmark_of_quality_measures_the_recommended_recipe():
    """The same recipe, but for sizes, lengths and rates."""

    def recipe(file):
        config = load_config(file).model_dump()
        for section in ("generator", "discriminator"):
            config[section] |= {"blocks": None, "filters": None}
        for phase in config["phases"].values():
            phase |= {"epochs": None, "steps": None}
            phase["learning_rate"]["initial"] = None
        config["batch"]["hr_crop"] = config["validation_images"] = None
        return config

    benchmark = recipe(ROOT / "benchmarks/quality.yaml")
    assert benchmark == recipe(CONFIGS / "recommended.yaml")


def test_the_demos_head_gives_the_figures_that_were_measured():
    text = DEMO.read_text()
    result = json.loads((ROOT / "benchmarks/results/demo.json").read_text().splitlines()[-1])
    for method in ("srgan", "bicubic"):
        for name in ("psnr_y", "psnr_rgb"):
            assert f"{result['table'][method][name]:.2f}" in text
    assert f"{result['training_seconds']} s of training, {result['demo_seconds']} s" in text


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("generator.block=4", "'block' was unexpected"),
        ("phases.pretrain.epoch=4", "'epoch' was unexpected"),
        (f"phases.Gan={LOSSES}", "'Gan' does not match"),
        ("generator.blocks='4'", "'4' is not of type 'integer'"),
        ("xla=yes", "'yes' is not one of"),
        ("failures=yes", "'yes' is not of type 'object'"),
        ("precision=float16", "'float16' is not one of"),
        ("batch.global_batch=0", "0 is less than the minimum of 1"),
    ],
)
def test_editors_find_what_the_job_refuses(override, message):
    key, value = override.split("=")
    content = section = read_yaml(BASE)
    *parents, last = key.split(".")
    for parent in parents:
        section = section[parent]
    section[last] = read_yaml(value)
    with pytest.raises(jsonschema.ValidationError, match=message):
        jsonschema.validate(content, json.loads(schema_text()))
    with pytest.raises(UserError, match=last):
        load_config(BASE, [override])


TEXTS = [
    "imagenet",
    "1e-4",
    "yes",
    "null",
    "~",
    "010",
    "",
    " a #b: c",
    "s3://bücket/a b#1",
    "x " * 90,
]


@pytest.mark.parametrize("text", TEXTS)
def test_dump_reads_back(text):
    rate = {"initial": 1e-5}
    phase = {"steps": 1, "losses": {"mse": 1, "vgg22": 1e-20}, "learning_rate": rate}
    config = Config.model_validate({"vgg_weights": text, "phases": {"z": phase, "a": phase}})
    dump = dump_config(config)
    assert parse_config(dump, "dump") == config
    assert list(parse_config(dump, "dump").phases) == ["z", "a"]
    assert "steps: 1\n    losses:\n      mse: 1.0\n" in dump


def test_a_run_of_an_earlier_version_reads_the_same():
    config = parse_config(BY_PYYAML.read_text(), "config.yaml")
    assert config.initial_generator == "s3://bücket/a b#1"
    assert config.vgg_weights == "010"
    assert config.generator_average == 0.999
    pretrain, gan = config.phases.values()
    assert (pretrain.learning_rate.initial, pretrain.clip_norm) == (1e-5, 1e16)
    assert (gan.epochs, gan.steps, gan.losses.vgg22) == (None, 7, 1e-5)
    assert config.checkpoints.every_minutes == 0.5


@pytest.mark.parametrize(
    ("file", "sha256"),
    [
        (BASE, "1448f69ec57bd2fd795e2a44018a7f6daeddcc3224ce822b222395380ec90fff"),
        (
            CONFIGS / "paper.yaml",
            "f18ae3d00615bf4824706de4e49da1870e569d2dc19a1866e4de14b2a9f0adab",
        ),
        (BY_PYYAML, "794904096d63840d2d59e99a30b2d76717a8dc9b5f8a253e4c80d0c8bf3bfa68"),
    ],
)
def test_evaluation_recognises_the_runs_that_exist(file, sha256):
    """Hashes by the code of commit 5456114: scores in buckets are found by them."""
    settings = json.dumps(fixed_settings(load_config(file)))
    assert hashlib.sha256(settings.encode()).hexdigest() == sha256


def test_a_config_travels_as_the_model():
    config = load_config(BASE, [f"phases.gan={LOSSES}"])
    for other in (
        cloudpickle.loads(cloudpickle.dumps(config)),
        copy.deepcopy(config),
        config.model_copy(),
    ):
        assert other == config
        assert dump_config(other) == dump_config(config)
        assert hash(other.generator) == hash(config.generator)
    assert load_config(BASE, [f"phases.gan={LOSSES}", "seed=1"]) != config


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("phases.pretrain.learning_rate.initial", "3e-4", 3e-4),
        ("phases.pretrain.learning_rate.initial", "5.", 5.0),
        ("phases.pretrain.losses.mse", "2E+1", 20.0),
        ("generator.batch_norm", "True", True),
        ("batch.global_batch", "8", 8),
        ("batch.global_batch", "0x10", 16),
        ("seed", "010", 10),  # YAML 1.2; eight in YAML 1.1
        ("seed", "1_000", 1000),
        ("vgg_weights", "1:30", "1:30"),  # YAML 1.2; ninety in YAML 1.1
        ("vgg_weights", "no", "no"),  # YAML 1.2; false in YAML 1.1
        ("checkpoints.every_minutes", "null", None),
    ],
)
def test_overrides_are_yaml_1_2(key, text, value):
    found = load_config(BASE, [f"{key}={text}"])
    for name in key.split("."):
        found = found[name] if isinstance(found, dict) else getattr(found, name)
    assert found == value
    assert type(found) is type(value)


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
        (
            "generator.batch_norm=yes",
            r"generator\.batch_norm: input should be a valid boolean \(true or false\), got 'yes'",
        ),
        ("xla=yes", r"xla: input should be 'auto', True or False, got 'yes'"),
        (
            "precision=float16",
            r"precision: input should be 'float32', 'mixed_bfloat16' or 'float64'",
        ),
        ("seed=4294967296", "seed: input should be less than or equal to 4294967295"),
        ("phases.pretrain.learning_rate.initial=.inf", "should be a finite number"),
        ("phases.pretrain.epoch=3", r"unknown key phases\.pretrain\.epoch; did you mean"),
        ("phases.pretrain.losses.mse=0", "one of mse, l1, vgg22, vgg54 and lpips must be above 0"),
        ("phases.pretrain.steps=5", "pass either epochs or steps"),
        ("phases.Gan.epochs=1", r"phases\.Gan.*should match pattern"),
        ("batch.global_batch", "expected KEY=VALUE"),
        ("seed.deep=1", "seed is not a section"),
        ("seed=[", r"--set seed=\[: is not YAML: line 1, column 2: while parsing a flow node"),
        ("seed=2024-13-45", "is not YAML: month must be in"),
        ("seed=\0", "is not YAML: unacceptable character #x0000"),
    ],
)
def test_a_wrong_value_is_named(override, message):
    with pytest.raises(UserError, match=message) as error:
        load_config(BASE, [override])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 0", "the key phases is missing"),
        ("phases: {}", "should have at least 1 item"),
        ("phases: {}\nphases: {}", 'not YAML: line 2, column 1: .* duplicate key "phases"'),
        ("seed: 1\nxla: [\n", "not YAML: line 3, column 1: while parsing a flow node expected"),
        ("seed: 1\n---\nseed: 2", "not YAML: line 2, column 1: expected a single document"),
        ("- 1", "valid dictionary"),
    ],
)
def test_a_wrong_file_is_named(text, message):
    with pytest.raises(UserError, match=f"^file: .*{message}") as error:
        parse_config(text, "file")
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"no\.yaml: No such file"):
        load_config(tmp_path / "no.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match=r"binary\.yaml: is not UTF-8"):
        load_config(tmp_path / "binary.yaml")
