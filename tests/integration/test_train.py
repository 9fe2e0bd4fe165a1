"""Training as a person runs it: what it leaves, what it refuses, where it may go on."""

import csv
import math
import shutil

import pytest
import tensorflow as tf

from data_pipeline.images import decode_image
from data_pipeline.prepare.build import prepare
from jobs import evaluate, train
from tests.conftest import assert_refused, data_settings
from tests.data_pipeline.prepare.test_build import contents
from tests.integration.conftest import CONFIG
from tests.integration.jobs import finish, last_step, records, refusal, start, starts, validated

EPOCHS = [("pretrain", 1), ("pretrain", 2), ("gan", 1), ("gan", 2), ("gan", 3)]


def test_a_run_leaves_what_the_readme_says(undisturbed):
    names = {path.name for path in undisturbed.iterdir()}
    expected = {"config.yaml", "dataset.json", "goodput.json", "metrics.jsonl"}
    assert names == expected | {"samples", "generators", "checkpoints", "tensorboard"}
    assert [(line["phase"], line["epoch"]) for line in records(undisturbed)] == EPOCHS
    generators = sorted(path.name for path in (undisturbed / "generators").iterdir())
    assert generators == [*(f"epoch-000{epoch}.keras" for epoch in (1, 2, 3)), "pretrain.keras"]
    samples = sorted(path.name for path in (undisturbed / "samples").iterdir())
    lines = validated(undisturbed)
    assert samples == sorted(
        f"{'pretrain' if line['phase'] == 'pretrain' else 'epoch'}-{line['epoch']:04}.png"
        for line in lines
    )
    for line in lines:
        assert line["bicubic_psnr_y"] == lines[-1]["bicubic_psnr_y"] > 20
        assert line["validation_psnr_y"] > 0
    first, last = records(undisturbed)[:2]  # of the pretrain phase
    assert last["mse"] < first["mse"]
    for name in ("peak_host_bytes", "seconds_per_step"):
        assert last[name] > 0
    checkpoints = [path for path in (undisturbed / "checkpoints").iterdir() if path.is_dir()]
    assert len(checkpoints) == 3
    for folder in checkpoints:
        assert sorted(path.name for path in folder.iterdir()) == ["checkpoint.json", "state.npz"]


def test_the_logged_rate_is_the_one_of_the_epochs_last_step(undisturbed):
    """A cosine to 0 over the first phase; a drop at half of the second."""
    lines = records(undisturbed)
    first, whole = lines[1]["step"], lines[-1]["step"]
    for line in lines:
        if line["phase"] == "pretrain":
            expected = 5e-4 * (1 + math.cos(math.pi * (line["step"] - 1) / first))
        else:
            is_dropped = line["step"] - first > math.ceil((whole - first) / 2)
            expected = 1e-4 if is_dropped else 1e-3
        assert line["learning_rate"] == pytest.approx(expected, rel=1e-4)
    assert {line["learning_rate"] for line in lines[2:]} == {1e-3, 1e-4}


def test_tensorboard_reads_the_log(undisturbed):
    """The losses, and in a folder of their own the scores."""
    names = ("mse", "learning_rate", "shift_red", "epoch", "compute_seconds")
    assert_events(undisturbed / "tensorboard", records(undisturbed), "training", names)
    assert_events(
        undisturbed / "tensorboard" / "validation",
        validated(undisturbed),
        "validation",
        ("validation_psnr_rgb", "bicubic_ssim_y", "validation_seconds"),
    )


def assert_events(folder, lines, group, names):
    """A number has the same name in every phase; a validation has the samples' picture."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    for file, line in zip(files, lines, strict=True):
        head, event = (
            tf.compat.v1.Event.FromString(record.numpy())
            for record in tf.data.TFRecordDataset(str(file))
        )
        assert head.file_version == "brain.Event:2"
        assert (event.step, event.wall_time) == (line["step"], line["time"])
        found = {value.tag: value for value in event.summary.value}
        assert all(tag.startswith(f"{group}/") for tag in found)
        if group == "validation":
            image = found.pop("validation/samples").image
            name = "epoch" if line["phase"] == "gan" else line["phase"]
            sample = (folder.parents[1] / f"samples/{name}-{line['epoch']:04}.png").read_bytes()
            assert image.encoded_image_string == sample
            assert (image.height, image.width) == decode_image(sample).shape[:2]
        for name in names:
            assert found[f"{group}/{name}"].simple_value == pytest.approx(line[name], rel=1e-6)


def test_said_again_a_finished_run_says_so(undisturbed, small_data, config, command, caplog):
    before = contents(undisturbed)
    with caplog.at_level("INFO"):
        done = command(train, "--config", config, "--data", small_data, "--run", undisturbed)
    assert done.code == 0
    assert "all 5 epochs are done already" in caplog.text
    assert contents(undisturbed) == before


@pytest.mark.usefixtures("ray_local")
def test_a_run_of_another_config_or_data_set_is_refused(
    undisturbed, photos, small_data, config, command, tmp_path
):
    before = contents(undisturbed)
    prepare(data_settings(photos), str(tmp_path / "other"))
    for data, changes, message in (
        (small_data, "seed=2", "another configuration (seed: 1, now 2); choose another --run"),
        (small_data, "phases.pretrain.epochs=3", "change only what lies ahead"),
        (small_data, "phases.gan.epochs=2", "change only what lies ahead"),
        (tmp_path / "other", "seed=1", "has another manifest; choose another --run"),
    ):
        given = ["--config", config, "--data", data, "--run", undisturbed, "--set", changes]
        assert_refused(command(train, *given), f"error: {undisturbed}: ", message)
    assert contents(undisturbed) == before


@pytest.mark.slow
def test_a_finished_run_may_be_made_longer(undisturbed, small_data, config, tmp_path):
    run = shutil.copytree(undisturbed, tmp_path / "run")
    step = last_step(run)
    arguments = ["--config", config, "--data", small_data, "--run", run]
    output = finish("train", *arguments, "--set", "phases.gan.epochs=4")
    assert starts(output) == [step]
    assert [(line["phase"], line["epoch"]) for line in records(run)] == [*EPOCHS, ("gan", 4)]
    assert (run / "generators" / "epoch-0004.keras").exists()


@pytest.mark.slow
def test_a_gan_phase_starts_from_another_runs_generator(undisturbed, small_data, config, tmp_path):
    run = tmp_path / "run"
    only_gan = tmp_path / "gan.yaml"
    text = CONFIG.replace(next(line for line in CONFIG.splitlines() if "pretrain" in line), "")
    only_gan.write_text(text.replace("epochs: 3", "steps: 2"))
    arguments = ["--config", only_gan, "--data", small_data]
    generator = undisturbed / "generators" / "pretrain.keras"
    finish("train", *arguments, "--run", run, "--set", f"initial_generator={generator}")
    finish("train", *arguments, "--run", tmp_path / "scratch")
    started, scratch = records(run)[0], records(tmp_path / "scratch")[0]
    assert started["mse"] < 0.8 * scratch["mse"]
    given = [*arguments, "--run", tmp_path / "wide", "--set", "generator.filters=16"]
    message = refusal(start("train", *given, "--set", f"initial_generator={generator}"))
    assert message.startswith(f"{generator}: is a generator of another size or form than the")


@pytest.mark.usefixtures("ray_local")
def test_training_stops_at_a_damaged_shard(small_data, config, command, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(small_data, data)
    shard = data / "train" / "00000.arrow"
    content = bytearray(shard.read_bytes())
    content[1000] ^= 1
    shard.write_bytes(content)
    done = command(train, "--config", config, "--data", data, "--run", tmp_path / "run")
    assert done.code == 1
    assert done.error.startswith(f"error: training failed: {shard}: expected sha256")
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


@pytest.mark.usefixtures("ray_local")
def test_evaluate_scores_a_run(undisturbed, small_data, command, tmp_path):
    run = shutil.copytree(undisturbed, tmp_path / "run")
    done = command(evaluate, "--run", run, "--data", small_data, "--epochs", "1,3")
    assert done.code == 0
    assert "| epoch | nearest | bicubic | SRGAN | HR |" in done.out
    table = (run / "evaluation" / "small" / "psnr.csv").read_text().splitlines()
    assert table[0] == "epoch,nearest,bicubic,srgan,hr"
    assert [line.split(",")[0] for line in table[1:]] == ["1", "3"]
    scores = list(csv.DictReader((run / "evaluation/small/scores.csv").open()))
    for line in validated(run):  # the training's own scores, to all digits
        for row in scores:
            if row["method"] == "bicubic" or (line["phase"], row["epoch"]) == (
                "gan",
                str(line["epoch"]),
            ):
                method = row["method"].replace("srgan", "validation")
                for name in ("psnr_rgb", "psnr_y", "ssim_rgb", "ssim_y"):
                    assert f"{line[f'{method}_{name}']:.4f}" == row[name], (line, row)
