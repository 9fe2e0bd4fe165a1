"""The commands as a person types them, mostly wrong ones: one line, exit code 2."""

import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
from ray.exceptions import RaySystemError

from data_pipeline.manifest import require_manifest
from data_pipeline.platform.cluster import ray_session
from data_pipeline.platform.errors import UserError
from data_pipeline.platform.storage import open_storage
from jobs import evaluate, prepare, train
from jobs.command import next_job, run
from srgan.config_file import load_config
from tests.conftest import PATIENCE, ROOT, Done, assert_refused

DEMO = str(ROOT / "configs" / "demo.yaml")
PICTURE = str(ROOT / "docs" / "demo.png")


def files(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def next_of(data: object, config: str = "div2k_100_epochs") -> str:
    """What a job that made or read DATA says last."""
    crop = " --set batch.hr_crop=48" if config == "div2k_100_epochs" else ""  # of small patches
    arguments = f"--config configs/{config}.yaml --data {data} --run RUN{crop}"
    return f"next: python -m jobs.train {arguments}\n"


def test_what_comes_next_is_told_as_this_job_was_started(monkeypatch):
    monkeypatch.delenv("RAY_JOB_CONFIG_JSON_ENV_VAR", raising=False)
    assert next_job("evaluate", "--run 'a b'") == "next: python -m jobs.evaluate --run 'a b'"
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    assert next_job("evaluate", "--run 'a b'") == "next: make submit-evaluate ARGS=\"--run 'a b'\""


@pytest.mark.usefixtures("ray_local")
@pytest.mark.parametrize(("patch_size", "crop"), [(52, 52), (96, 96)])
def test_crops_of_the_next_command_fit_into_the_patches(
    command, photos, tmp_path, patch_size, crop
):
    made = ["--out", tmp_path / "data", "--patch-size", patch_size, "--stride", 24]
    said = shlex.split(command(prepare, "--source", photos, *made).out.splitlines()[-1])
    config = load_config(ROOT / said[said.index("--config") + 1], said[said.index("RUN") + 2 :])
    assert config.batch.hr_crop == crop


def test_prepare_missing_folder(command, tmp_path):
    result = command(prepare, "--source", tmp_path / "none", "--out", tmp_path / "out")
    assert_refused(result, f"{tmp_path}/none: no such folder; pass a folder of images")
    assert files(tmp_path) == []


def test_prepare_empty_folder(command, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("no image")
    result = command(prepare, "--source", tmp_path / "empty", "--out", tmp_path / "out")
    assert_refused(
        result, "empty: holds no image (.png, .jpg, .jpeg, .jpe, .jfif, .bmp, .webp, .tif, .tiff)"
    )
    assert files(tmp_path) == ["empty"]


@pytest.mark.usefixtures("ray_local")
def test_prepare_an_image_that_does_not_decode(command, tmp_path, photos):
    source = tmp_path / "source"
    shutil.copytree(photos, source)
    (source / "bad.png").write_bytes((source / "camera.png").read_bytes()[:1000])
    arguments = ["--source", source, "--out", tmp_path / "out", "--patch-size", 48, "--stride", 24]
    assert_refused(
        command(prepare, *arguments), "bad.png: does not decode", "fix that and run it again"
    )
    assert not (tmp_path / "out" / "manifest.json").exists()
    (source / "bad.png").unlink()
    done = command(prepare, *arguments)
    assert done.code == 0
    assert done.out.endswith(f" validation images\n{next_of(tmp_path / 'out')}")


def test_prepare_wrong_arguments(command, tmp_path):
    assert_refused(command(prepare, "--source", "samples"), "--out")
    result = command(prepare, "--source", "samples", "--out", tmp_path / "x", "--format", "zip")
    assert_refused(result, "--format", "'zip'")
    result = command(prepare, "--source", "samples", "--out", tmp_path / "x", "--stride", 7)
    assert_refused(result, "--stride 7: must be a multiple of the scale 4")
    result = command(prepare, "--source", "s3x://b/p", "--out", tmp_path / "x")
    assert_refused(result, "s3x:// is not supported")
    assert files(tmp_path) == []


@pytest.mark.parametrize("scale", ["1", "5", "6", "16", "-4", "0", "4.5", "four", ""])
@pytest.mark.parametrize("source", ["div2k", "/no/such/folder"])
def test_prepare_for_a_scale_that_no_generator_has(command, tmp_path, source, scale):
    """Before the source is looked at."""
    result = command(prepare, "--source", source, "--out", tmp_path / "x", "--scale", scale)
    assert_refused(result, "argument --scale: invalid", scale)
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    ("scale", "message"),
    [
        (3, "batch.hr_crop 32: must be a multiple of the scale 3 of {data}; set it to 33"),
        (16, "{data}: has scale 16, and the generator has only 2, 3, 4, 8; prepare the data set"),
    ],
)
def test_train_at_a_scale_that_does_not_fit(command, tmp_path, small_data, scale, message):
    """As older versions prepared it, too."""
    manifest = require_manifest(open_storage(str(small_data)))
    settings = manifest.settings.model_copy(update={"scale": scale})
    data, run = tmp_path / "data", tmp_path / "run"
    data.mkdir()
    changed = manifest.model_copy(update={"settings": settings})
    (data / "manifest.json").write_bytes(changed.to_json())
    given = ["--config", DEMO, "--data", data, "--run", run, "--set", "batch.hr_crop=32"]
    assert_refused(command(train, *given), message.format(data=data))
    assert files(tmp_path) == ["data"]


@pytest.mark.parametrize(
    ("data", "settings", "messages"),
    [
        ("small_data", ["generator.block=4"], ["block; did you mean generator.blocks?"]),
        ("photos", [], ["holds no manifest.json", "jobs.prepare"]),
        ("small_data", ["batch.hr_crop=64"], ["batch.hr_crop 64: is larger than", "(48)"]),
        (
            "small_data",
            ["batch.hr_crop=32", "batch.global_batch=999"],
            ["batch.global_batch 999", "holds only"],
        ),
    ],
)
def test_train_with_wrong_settings(command, tmp_path, request, data, settings, messages):
    where = ("--data", request.getfixturevalue(data), "--run", tmp_path / "run")
    options = [option for setting in settings for option in ("--set", setting)]
    assert_refused(command(train, "--config", DEMO, *where, *options), *messages)
    assert files(tmp_path) == []


@pytest.mark.usefixtures("ray_local")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--gpus-per-worker", 3],
            "1 worker(s) with 1 CPU(s) and 3 GPU(s) each are asked for, this machine is "
            "1 node(s) with 2 CPU(s) and 0 GPU(s); ask for less, or name a cluster in RAY_ADDRESS",
        ),
        (["--num-workers", 3], "3 worker(s) with 1 CPU(s) and 0 GPU(s) each are asked for"),
        (["--num-workers", "3:4"], "3 to 4 worker(s) with 1 CPU(s)"),
        (["--num-workers", 17], "batch.global_batch 16: leaves nothing for some of 17 replicas"),
        (["--num-workers", 0], "argument --num-workers: 0: expected N, or MIN:MAX, as in 4 or 2:8"),
        (["--num-workers", "4:2"], "argument --num-workers: 4:2: expected N, or MIN:MAX"),
        (["--num-workers", "two"], "argument --num-workers: two: expected a whole number from 0"),
        (["--gpus-per-worker", -1], "argument --gpus-per-worker: -1: expected a whole number"),
        (
            ["--num-workers", 2, "--set", "xla=true", "--set", "generator.batch_norm=true"],
            "xla: cannot compile batch normalisation over 2 replicas; set xla to false, or",
        ),
    ],
)
def test_train_workers_that_cannot_be(command, tmp_path, small_data, arguments, message):
    given = ["--config", DEMO, "--data", small_data, "--run", tmp_path / "run"]
    result = command(train, *given, "--set", "batch.hr_crop=32", *arguments)
    assert_refused(result, message)
    assert files(tmp_path) == []


def test_evaluate_wrong_arguments(command, tmp_path, photos, small_data):
    assert_refused(command(evaluate, "--out", tmp_path / "x"), "pass --data or --hr")
    assert_refused(command(evaluate, "--hr", photos), "pass --out: without --run there")
    result = command(evaluate, "--data", small_data, "--lr", photos, "--out", tmp_path / "x")
    assert_refused(result, "--lr goes with --hr")
    result = command(evaluate, "--data", small_data, "--scale", 4, "--out", tmp_path / "x")
    assert_refused(result, "--scale goes with --hr")
    result = command(evaluate, "--hr", photos, "--scale", 5, "--out", tmp_path / "x")
    assert_refused(result, "argument --scale: invalid choice: 5")
    result = command(evaluate, "--data", photos, "--out", tmp_path / "x")
    assert_refused(result, "holds no manifest.json")
    result = command(evaluate, "--data", small_data, "--run", tmp_path / "none")
    assert_refused(result, "none: lacks config.yaml or dataset.json; pass a RUN")
    assert_refused(command(evaluate, "--run", tmp_path / "none"), "lacks config.yaml")
    (tmp_path / "empty").mkdir()
    result = command(evaluate, "--hr", tmp_path / "empty", "--out", tmp_path / "x")
    assert_refused(result, "empty: holds no image (")
    (tmp_path / "empty").rmdir()
    result = command(evaluate, "--hr", photos, "--out", tmp_path / "x", "--epochs", "5,ten")
    assert_refused(result, "5,ten: expected epochs")
    result = command(evaluate, "--hr", photos, "--out", tmp_path / "x", "--epochs", "5")
    assert_refused(result, "--epochs goes with --run")
    baselines = ["--hr", photos, "--out", tmp_path / "x"]
    for option, value in (
        ("--compare", "RUN2"),
        ("--fail-below", "psnr_y=20"),
        ("--fail-drop", "psnr_y=1"),
        ("--drop-from", "RUN2"),
    ):
        result = command(evaluate, *baselines, option, value)
        assert_refused(result, f"{option} goes with --run")
    run = ["--run", tmp_path / "none"]
    assert_refused(command(evaluate, *run, "--drop-from", "RUN2"), "goes with --fail-drop")
    result = command(evaluate, *run, "--alert-url", "hooks/S3CRET")
    assert_refused(result, "--alert-url: expected the URL of a webhook: https://HOST/PATH")
    assert "S3CRET" not in result.err
    result = command(evaluate, *run, "--alert-url", "https://chat/S3CRET")
    assert_refused(result, "--alert-url goes with --fail-below or --fail-drop")
    for value in ("psnr_y", "psnr_y=much", "psnr_y=nan"):
        assert_refused(command(evaluate, *run, "--fail-below", value), "expected METRIC=NUMBER")
    result = command(evaluate, *run, "--fail-below", "niqe=5")
    assert_refused(result, "niqe=5: METRIC is one of psnr_rgb, psnr_y, ssim_rgb")
    assert files(tmp_path) == []


def test_evaluate_lr_that_does_not_match(command, tmp_path, photos):
    result = command(evaluate, "--hr", photos, "--lr", photos, "--out", tmp_path / "x")
    name = f"{photos}/astronaut.png"
    assert_refused(result, f"{name}: (99x97, RGB) is not 4 times {name} (99x97, RGB)", "HR, 24x24")
    (tmp_path / "lr").mkdir()
    shutil.copy(photos / "camera.png", tmp_path / "lr")
    result = command(evaluate, "--hr", photos, "--lr", tmp_path / "lr", "--out", tmp_path / "x")
    assert_refused(result, "lr: holds no LR image for", "astronaut.png")
    assert files(tmp_path) == ["lr"]


def prepare_process(*arguments, **environment) -> Done:
    done = subprocess.run(
        [sys.executable, "-m", "jobs.prepare", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
        env=os.environ | environment,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def test_as_a_process(tmp_path):
    """The exit code and the streams are the process's."""
    done = prepare_process("--source", tmp_path / "none", "--out", tmp_path / "out")
    message = f"error: {tmp_path}/none: no such folder; pass a folder of images\n"
    assert done == Done(2, "", message)


WRONG = {
    "prepare": [
        ("--source", "samples"),
        ("--source", "{none}", "--out", "{out}"),
        ("--source", "samples", "--out", "{out}", "--stride", "7"),
        ("--verify", "{none}"),
    ],
    "train": [
        ("--data", "{none}"),
        ("--config", "{none}", "--data", "{none}", "--run", "{out}"),
        ("--config", DEMO, "--data", "{none}", "--run", "{out}", "--set", "generator.block=4"),
        ("--config", DEMO, "--data", "{none}", "--run", "{out}", "--set", "seed=x"),
        ("--config", DEMO, "--data", "{none}", "--run", "{out}"),
        ("--config", DEMO, "--data", "{none}", "--run", "{out}", "--dry-run"),
    ],
    "evaluate": [
        ("--out", "{out}"),
        ("--data", "{none}", "--out", "{out}"),
        ("--run", "{none}"),
        ("--run", "{none}", "--fail-below", "niqe=5"),
    ],
    "upscale": [
        ("{none}", "{out}"),
        ("--run", "{none}", "--weights", "{none}", DEMO, "{out}"),
        ("--run", "{none}", "{none}", "{out}"),
        ("--run", "{none}", PICTURE, "{out}"),
        ("--weights", "{none}", PICTURE, "{out}"),
        ("--weights", "{none}", "--epoch", "best", PICTURE, "{out}"),
        ("--run", "{none}", "--epoch", "newest", PICTURE, "{out}"),
        ("--run", "{none}", "--ext", "gif", PICTURE, "{out}"),
        ("--run", "{none}", "--quality", "101", PICTURE, "{out}"),
        ("--run", "{none}", "--quality", "90", PICTURE, "{out}"),
    ],
    "study": [
        (),
        ("make", "--run", "{none}", "--out", "{out}"),
        ("make", "--run", "{none}", "--out", "s3://bucket/study"),
        ("serve", "--study", "{none}"),
        ("score", "--study", "s3://bucket/study"),
    ],
}
HEAVY = {"tensorflow", "keras", "ray", "matplotlib", "skimage"}
CALLS = """
import importlib, json, sys
from jobs.command import next_job, run
from srgan.config_file import load_config
job = importlib.import_module(f"jobs.{sys.argv[1]}")
for sys.argv[1:] in json.loads(sys.argv[2]):
    try:
        run(job.main)
    except SystemExit as end:
        print("code", end.code)
print(*sys.modules)
"""


@pytest.mark.parametrize("job", WRONG)
def test_help_and_wrong_arguments_wait_for_no_heavy_library(tmp_path, job):
    places = {"none": str(tmp_path / "none"), "out": str(tmp_path / "out")}
    wrong = [("--no-such-option",), *WRONG[job]]
    calls = [("--help",), *([part.format(**places) for part in call] for call in wrong)]
    done = python(CALLS, job, json.dumps(calls))
    *lines, modules = done.stdout.splitlines()
    codes = [line for line in lines if line.startswith("code ")]
    assert codes == ["code 0", *["code 2"] * len(wrong)], done
    assert [line[:7] for line in done.stderr.splitlines()] == ["error: "] * len(wrong), done
    assert not HEAVY & set(modules.split())
    assert files(tmp_path) == []


def test_prepare_one_task_at_a_time(command, tmp_path, small_data):
    message = "pass one of --source, --verify and --describe"
    assert_refused(command(prepare, "--out", tmp_path / "out"), message)
    for arguments in (
        ("--source", "samples", "--describe", small_data),
        ("--verify", small_data, "--describe", small_data),
    ):
        assert_refused(command(prepare, *arguments, "--out", tmp_path / "out"), message)
    assert_refused(command(prepare, "--source", "samples"), "--out is missing")
    assert files(tmp_path) == []


def test_verify_and_describe_a_folder_without_manifest(command, tmp_path, photos):
    for option in ("--verify", "--describe"):
        for folder in (photos, tmp_path / "none"):
            result = command(prepare, option, folder, "--out", tmp_path / "pairs.png")
            assert_refused(result, f"{folder}: holds no manifest.json, so it is no finished data")
    assert files(tmp_path) == []


@pytest.mark.usefixtures("ray_local")
def test_verify_says_that_nothing_is_damaged(command, small_data):
    done = command(prepare, "--verify", small_data)
    assert done.code == 0
    assert (
        done.out == f"{small_data}: all 4 parts are what the manifest says\n{next_of(small_data)}"
    )


@pytest.fixture
def lr_arguments(tmp_path, photos):
    """A source with LR files made by hand, and the arguments that go with it."""
    source, lr = tmp_path / "hr", tmp_path / "lr"
    source.mkdir()
    lr.mkdir()
    for name in ("rocket", "more/motorcycle"):  # 100x96 and 96x96
        hr = cv2.imread(str(photos / f"{name}.png"))
        cv2.imwrite(str(source / f"{Path(name).name}.png"), hr)
        cv2.imwrite(str(lr / f"{Path(name).name}x4.png"), hr[::4, ::4])
    sizes = ("--patch-size", 48, "--stride", 24)
    return "--source", source, "--lr-source", lr, "--out", tmp_path / "out", *sizes


def test_prepare_with_a_missing_lr_file(command, tmp_path, lr_arguments):
    (tmp_path / "lr" / "rocketx4.png").unlink()
    result = command(prepare, *lr_arguments)
    assert_refused(result, f"{tmp_path}/lr: holds no LR image for {tmp_path}/hr/rocket.png")
    assert files(tmp_path) == ["hr", "lr"]


@pytest.mark.usefixtures("ray_local")
def test_prepare_with_an_lr_file_of_a_wrong_size(command, tmp_path, lr_arguments):
    path = tmp_path / "lr" / "rocketx4.png"
    right = path.read_bytes()
    cv2.imwrite(str(path), cv2.imread(str(path))[:-1])
    result = command(prepare, *lr_arguments)
    hr = f"{tmp_path}/hr/rocket.png: (100x96, RGB) is not 4 times "
    assert_refused(result, f"{hr}{path} (25x23, RGB)", "fix that and run it again")
    assert not (tmp_path / "out" / "manifest.json").exists()
    path.write_bytes(right)
    assert command(prepare, *lr_arguments).code == 0


def test_prepare_lr_options_that_do_not_go_together(command, tmp_path, photos):
    out = ("--out", tmp_path / "out")
    result = command(prepare, "--source", "div2k", "--lr-source", photos, *out)
    assert_refused(result, "--lr-source: div2k has LR images of its own; leave it out")
    valid = ("--valid-source", "div2k", "--valid-lr-source", photos)
    result = command(prepare, "--source", "samples", *valid, *out)
    assert_refused(result, "--valid-lr-source: div2k has LR images of its own; leave it out")
    result = command(prepare, "--source", photos, "--valid-lr-source", photos, *out)
    assert_refused(result, "--valid-lr-source goes with --valid-source")
    result = command(prepare, "--source", "samples", "--mirror", photos, *out)
    assert_refused(result, "--mirror goes with --source div2k")
    assert files(tmp_path) == []


@pytest.mark.parametrize("mode", ["--verify", "--describe"])
@pytest.mark.parametrize(
    "option", ["--valid-source", "--lr-source", "--valid-lr-source", "--mirror"]
)
def test_prepare_options_that_need_a_source(command, small_data, photos, mode, option):
    result = command(prepare, mode, small_data, option, photos)
    assert_refused(result, f"{option} goes with --source")


@pytest.mark.usefixtures("ray_local")
def test_verify_says_which_source_files_it_compared(command, small_data, photos):
    done = command(prepare, "--verify", small_data, "--source", photos)
    assert done.code == 0
    first = f"{photos}: 9 HR and 0 LR files are what the data set was made of"
    assert done.out.startswith(f"{first}\n{small_data}: all 4 parts")


def test_describe_prints_the_counts_and_draws_pairs(command, tmp_path, monkeypatch, small_data):
    picture = tmp_path / "new" / "pairs.png"
    done = command(prepare, "--describe", small_data, "--out", picture)
    assert done.code == 0
    patches = require_manifest(open_storage(str(small_data))).num_patches
    assert f"training    6 images, {patches} patches\n" in done.out
    assert "validation  3 images, " in done.out
    assert done.out.endswith(f"\npairs of LR and HR in {picture}\n{next_of(small_data)}")
    assert cv2.imread(str(picture)).shape == (4 * 56, 3 * 104, 3)
    assert files(tmp_path / "new") == ["pairs.png"]
    monkeypatch.chdir(tmp_path)
    command(prepare, "--describe", small_data)
    assert (tmp_path / "small-pairs.png").read_bytes() == picture.read_bytes()


def test_describe_into_a_folder_is_refused(command, tmp_path, small_data):
    result = command(prepare, "--describe", small_data, "--out", tmp_path)
    assert_refused(result, str(tmp_path))
    assert files(tmp_path) == []


def test_describe_names_a_damaged_shard(command, tmp_path, small_data):
    data = shutil.copytree(small_data, tmp_path / "data")
    os.truncate(data / "train" / "00000.arrow", 1000)
    done = command(prepare, "--describe", data, "--out", tmp_path / "pairs.png")
    assert done.code in (1, 2)
    assert f"{data}/train/00000.arrow: expected " in done.error
    assert files(tmp_path) == ["data"]


def test_an_error_of_the_machine_is_one_line_too(capsys):
    def main():
        raise OSError(28, "No space left on device", "/data/x")

    with pytest.raises(SystemExit) as stop:
        run(main)
    assert stop.value.code == 1
    assert capsys.readouterr().err == "error: [Errno 28] No space left on device: '/data/x'\n"


def test_an_error_of_ray_is_one_line_too(capsys):
    def main():
        raise RaySystemError("System error:\nthe controller is gone")

    with pytest.raises(SystemExit) as stop:
        run(main)
    assert stop.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: RaySystemError: ")
    assert line.endswith("the controller is gone; run the same command again to go on")


def test_a_shells_settings_of_keras_and_ray_change_nothing(tmp_path):
    """Keras would take each of these from the home or the shell."""
    folder = tmp_path / ".keras"
    folder.mkdir()
    settings = {"image_data_format": "channels_first", "backend": "jax", "epsilon": 0.1}
    (folder / "keras.json").write_text(json.dumps(settings | {"floatx": "bfloat16"}))
    shell = {"KERAS_BACKEND": "torch", "TF_USE_LEGACY_KERAS": "1", "RAY_TRAIN_V2_ENABLED": "0"}
    done = python(
        "import jobs, srgan, keras, tensorflow as tf, ray.train; from keras import config;"
        "print(config.backend(), config.image_data_format(), config.floatx(), config.epsilon(),"
        "tf.keras.__version__ == keras.__version__, hasattr(ray.train, 'UserCallback'),"
        "srgan.KERAS_FOLDER)",
        **shell,
        KERAS_HOME=str(folder),
    )
    assert done.stdout == f"tensorflow channels_last float32 1e-07 True True {folder}\n", done
    assert os.listdir(folder) == ["keras.json"]
    # The user's folder for downloads is the same in a process that such a process starts.
    child = "import subprocess, sys, srgan; print(srgan.KERAS_FOLDER, flush=True);" + (
        "sys.argv[1:] and subprocess.run([sys.executable, '-c', sys.argv[1]], check=True)"
    )
    done = python(child, child, KERAS_HOME=str(folder))
    assert done.stdout == f"{folder}\n{folder}\n", done


def test_file_names_are_utf8_in_any_locale(tmp_path):
    (tmp_path / "größe.png").touch()
    job = tmp_path / "job.py"
    job.write_text(
        "import os, sys; from jobs.command import run\n"
        "run(lambda: print(sys.argv[1:], os.listdir(sys.argv[1])))\n"
    )
    # A folder and an argument that are not ASCII, in bytes that ASCII cannot hold.
    done = python(str(job), str(tmp_path), "größe", PYTHONUTF8="0", LC_ALL="C")
    assert done.stdout.startswith(f"['{tmp_path}', 'größe'] ["), done
    assert "'größe.png'" in done.stdout


def python(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """Runs a file, or code, beside this process, whose own settings it does not inherit."""
    inherited = (
        "KERAS_HOME",
        "SRGAN_KERAS_HOME",
        "KERAS_BACKEND",
        "RAY_TRAIN_V2_ENABLED",
        "TF_USE_LEGACY_KERAS",
    )
    rest = {name: value for name, value in os.environ.items() if name not in inherited}
    begin = (code,) if code.endswith(".py") else ("-c", code)
    return subprocess.run(
        [sys.executable, *begin, *arguments],
        cwd=ROOT,
        env=rest | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=PATIENCE,
        check=False,
    )


def test_a_cluster_that_does_not_answer_is_an_error_at_once(tmp_path):
    """Ray itself would try for minutes."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        arguments = ("--source", "samples", "--patch-size", 96, "--out", tmp_path / "out")
        done = prepare_process(*arguments, RAY_ADDRESS=address)
    message = f"RAY_ADDRESS {address}: cannot use this cluster: [Errno 111] Connection refused"
    assert_refused(done, message)
    assert not (tmp_path / "out/manifest.json").exists()


def test_a_cluster_of_another_version_is_an_error(monkeypatch):
    """Ray's own check finds it; this gives Ray's error."""

    def init(**_):
        raise RuntimeError("Version mismatch: The cluster was started with:\n    Ray: 2.50.0\n")

    monkeypatch.setenv("RAY_ADDRESS", "auto")
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.init", init)
    with (
        pytest.raises(
            UserError,
            match=r"auto: .*Version mismatch.* Ray: 2\.50\.0; .*install the cluster's own",
        ),
        ray_session(),
    ):
        pass
