"""Every benchmark runs on small sizes and prints the figures of its recorded result."""

import importlib.util
import json
import math
import re
import subprocess
import sys
from importlib import import_module

import cv2
import keras
import numpy as np
import pytest

from data_pipeline.imresize import imresize
from srgan.networks import generator
from tests.conftest import ROOT, photograph
from tests.srgan.test_network_losses import lpips_weights

RESULTS = ROOT / "benchmarks" / "results"


def run(name: str, *arguments: str) -> dict:
    """The figures of `python -m benchmarks.NAME`."""
    command = [sys.executable, "-m", f"benchmarks.{name}", *arguments]
    done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return checked(name, done.stdout)


def checked(name: str, output: str) -> dict:
    """The last line's object; its figures are those of the recorded result, and sane numbers."""
    result = json.loads(output.splitlines()[-1])
    if (RESULTS / f"{name}.json").exists() and name not in ("baselines", "gpu", "recipes"):
        recorded = json.loads((RESULTS / f"{name}.json").read_text())
        if name in ("quality", "upscale"):  # with notes by hand, and with PyTorch
            assert result.keys() <= recorded.keys()
        else:
            assert names(result) == names(recorded)
    for path, number in numbers(result):
        assert math.isfinite(number), path
        if re.search(r"seconds|per_second|bytes|pixels|times_usual|_mb$", path):
            assert number >= 0, path
    return result


def names(value):
    """An object's keys, and those of the objects in it."""
    return {key: names(one) for key, one in value.items()} if isinstance(value, dict) else None


def numbers(value, path=""):
    if isinstance(value, dict):
        for key, one in value.items():
            yield from numbers(one, f"{path}.{key}")
    elif isinstance(value, list):
        for one in value:
            yield from numbers(one, path)
    elif not isinstance(value, str):
        yield path, value


def benchmark_folder(folder):
    """A benchmark of one small photograph."""
    hr = np.ascontiguousarray(photograph("astronaut.png")[:96, 200:320])
    for name, image in (("HR", hr), ("LR_x4", imresize(hr, 0.25))):
        (folder / name).mkdir(parents=True)
        cv2.imwrite(str(folder / name / "astronaut.png"), image)
    return folder


def test_every_benchmark_has_a_test():
    programs = [
        path.stem
        for path in (ROOT / "benchmarks").glob("*.py")
        if '__name__ == "__main__"' in path.read_text()
    ]
    assert {f"test_{name}" for name in programs} <= set(globals())


def test_imresize():
    result = run("imresize", "--size=204x136", "--rounds=1")
    assert result["size"] == "204x136"
    assert result["down_seconds"] > 0


def test_opinion_study():
    result = run("opinion_study", "--studies=4")
    assert all(0.5 <= one["all"] <= 1 for one in result["held"].values())
    assert result["half_widths"]["8 crops"]["12 raters"] > 0.2


def test_s3_retries():
    result = run("s3_retries", "--objects=3")
    assert result["objects"] == 3
    ratio = result["mixed_adaptive_seconds"] / result["mixed_standard_seconds"]
    assert result["mixed_adaptive_over_standard"] == pytest.approx(ratio, rel=0.01)


@pytest.mark.usefixtures("ray_local")
def test_baselines(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["baselines", str(benchmark_folder(tmp_path / "Set1"))])
    import_module("benchmarks.baselines").main()
    result = checked("baselines", capsys.readouterr().out)
    recorded = json.loads((RESULTS / "baselines.json").read_text())
    assert names(result["Set1"]) == names(recorded["Set5"])
    nearest, bicubic = result["Set1"]["nearest"], result["Set1"]["bicubic"]
    assert all(nearest[name] < bicubic[name] for name in nearest)


@pytest.mark.usefixtures("ray_local")
def test_loader(monkeypatch, capsys):
    arguments = ["--count=2", "--size=1200x960", "--steps=2", "--rounds=1"]
    monkeypatch.setattr(sys, "argv", ["loader", *arguments])
    import_module("benchmarks.loader").main()
    result = checked("loader", capsys.readouterr().out)
    assert result["pairs"] == result["arrow"]["pairs"] == 24
    assert result["tfrecord_10x_shards"]["pairs"] == 240
    assert result["open_1000_shards"]["shards"] == 1000


@pytest.mark.slow
def test_data_wait():
    small = ["--count=1", "--size=1200x960", "--seconds=0.1", "--rounds=1", "--workers", "1", "2"]
    result = run("data_wait", *small, "--steps", "4:10")
    assert [(case["batch"], case["workers"]) for case in result["cases"]] == [(4, 1), (4, 2)]
    for case in result["cases"]:
        assert 0 <= case["data_wait_share"] < 1
        assert 0 < case["crops_per_second"] <= case["crops_per_second_needed"]
        rate = 1e6 / case["cpu_microseconds_per_crop"]
        assert case["crops_per_second_per_core"] == pytest.approx(rate, rel=0.01)


@pytest.mark.slow
def test_prepare():
    arguments = ["--count=1", "--size=720x480", "--rounds=1", "--cores=1"]
    result = run("prepare", *arguments)
    for name in ("usual", "arrow", "tfrecord"):
        assert result[name]["pairs"] == 2
    assert result["arrow_4x_images"]["pairs"] == 8
    assert result["arrow"]["bytes"] > 2 * 480 * 480 * 3


@pytest.mark.slow
def test_evaluate():
    result = run("evaluate", "--images=2", "--scored=1", "--size=204x136")
    assert result["baseline_images"] == 2
    assert result["large_image_peak_megabytes"] > 50


@pytest.mark.slow
@pytest.mark.slow
def test_colour_fix(tmp_path):
    keras.utils.set_random_seed(0)
    generator(blocks=1, filters=4).save(tmp_path / "g.keras")
    folders = [tmp_path / name / "HR" for name in ("Set5", "Set14")]
    for folder in folders:
        folder.mkdir(parents=True)
        cv2.imwrite(str(folder / "a.png"), photograph("astronaut.png")[:97, 200:320])
    result = run("colour_fix", "--run", str(tmp_path / "g.keras"), "--hr", *map(str, folders))
    values = result["Set5"]
    assert values["none"]["lr_psnr"] < values["2"]["lr_psnr"] < values["0"]["lr_psnr"]


def test_step_graph(small_data):
    result = run("step_graph", str(small_data), "--blocks=1", "--case", "gan", "2", "plain")
    assert result["sums_per_replica"] == 43
    assert result["operations"] > 200


@pytest.mark.slow
def test_gpu(monkeypatch):
    """On the CPU, all but the peer, which needs PyTorch."""
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    sizes = ["--hr-crop=32", "--blocks=1", "--filters=4", "--dense=8", "--lr-size=20x14"]
    steps = ["--batches=2", "--steps=2", "--quality-steps=4,8", "--content=vgg22"]
    result = run("gpu", "--parts=steps,upscale,quality", *sizes, *steps)
    recorded = json.loads((RESULTS / "gpu.json").read_text())
    assert recorded.keys() - result.keys() == {"peer"}
    figures = result["steps"]["gan_mixed_bfloat16_2"]
    assert figures.keys() | {"mfu"} == recorded["steps"]["gan_mixed_bfloat16_16"].keys()
    assert figures["milliseconds"] > 0
    for seed in range(3):
        full, half = (
            result["quality"][f"pretrain_{precision}_4_steps_seed_{seed}"]["loss"]
            for precision in ("float32", "mixed_bfloat16")
        )
        assert half == pytest.approx(full, rel=0.02)


@pytest.mark.soak
def test_recipes(tmp_path, monkeypatch):
    """Tiny networks, one step a call; run again it trains nothing, and scores other pictures."""
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    text = (ROOT / "benchmarks/quality.yaml").read_text()
    for name, value in (("blocks", 1), ("filters", 4), ("hr_crop", 16)):
        text = re.sub(rf"{name}: \d+", f"{name}: {value}", text)
    (tmp_path / "tiny.yaml").write_text(text)
    folder = benchmark_folder(tmp_path / "Set1")
    np.savez(tmp_path / "lpips.npz", **lpips_weights())
    arguments = ["--train", str(folder / "HR"), "--valid", str(folder / "HR"), "--chunk=1"]
    arguments += ["--lpips-weights", str(tmp_path / "lpips.npz"), "--out", str(tmp_path / "out")]
    arguments += ["--config", str(tmp_path / "tiny.yaml"), "--seeds", "0", "1"]
    result = run("recipes", *arguments, "--runs", "gan, R1 1")
    assert list(result["runs"]) == ["pretrain", "gan, R1 1"]
    recorded = json.loads((RESULTS / "recipes.json").read_text())["candidates"]
    assert list(result) == list(recorded)
    pretrain, gan = result["runs"].values()
    assert gan.keys() == recorded["runs"]["gan, R1 1"].keys()
    assert (pretrain["steps"], gan["steps"]) == (80, 30)
    for low, high in (*gan["d_hr"], *gan["d_sr"]):
        assert 0 < low < high < 1
    assert pretrain["scores"]["80"]["psnr_y"][0] > 20
    assert len(set(gan["scores"]["30"]["lpips"])) == 2
    again = run("recipes", *arguments, "--runs", "gan, R1 1", "--benchmarks", str(folder))
    # The same pictures: their LR is that of the folder, which imresize made.
    for one in again["runs"].values():
        (last,) = one["scores"].values()
        assert one.pop("Set1") == last
    assert again == result


@pytest.mark.slow
def test_train_step():
    small = ("batch.hr_crop=32", "generator.blocks=1", "generator.filters=8")
    settings = [f"--set={setting}" for setting in small]
    result = run("train_step", "--mosaics=2", "--size=1200x960", *settings)
    assert (result["global_batch"], result["hr_crop"]) == (16, 32)
    for phase in ("pretrain", "gan"):
        figures = result[phase]
        assert figures["seconds_per_step"] > 0
        ratio = figures["seconds_per_step"] / figures["seconds_per_step_without_ray"]
        assert figures["against_without_ray"] == pytest.approx(ratio, rel=0.01)
    for phase, sums in (("pretrain", 8), ("gan", 43)):
        graphs = {
            name: result["graphs"][f"{phase}_{name}"] for name in ("1_plain", "1_xla", "2_plain")
        }
        assert graphs["1_xla"]["operations"] < 20 < graphs["1_plain"]["operations"]
        assert graphs["1_plain"]["sums_per_replica"] == 0
        assert graphs["2_plain"]["sums_per_replica"] == sums


@pytest.mark.slow
def test_demo(tmp_path):
    text = (ROOT / "configs/demo.yaml").read_text()
    small = re.sub(r"epochs: \d+", "epochs: 1", re.sub(r"filters: \d+", "filters: 4", text))
    (tmp_path / "small.yaml").write_text(small)
    result = run("demo", f"DEMO_CONFIG={tmp_path}/small.yaml", "DEMO_EPOCHS=1")
    assert result["steps"] == 190
    scores = result["table"]
    assert 0 < scores["bicubic"]["lpips"] < 1 <= scores["srgan"]["grid"]
    gain = scores["srresnet"]["psnr_rgb"] - scores["bicubic"]["psnr_rgb"]
    assert result["srresnet_gain_over_bicubic_db"] == pytest.approx(gain, abs=0.01)


@pytest.mark.slow
def test_quality(tmp_path):
    """A tiny one; run again it trains nothing and prints the same."""
    text = (ROOT / "benchmarks/quality.yaml").read_text()
    for name, value in (("blocks", 1), ("filters", 4), ("hr_crop", 16), ("steps", 2)):
        text = re.sub(rf"{name}: \d+", f"{name}: {value}", text)
    (tmp_path / "tiny.yaml").write_text(text)
    for folder, photo in (("train", "coffee.png"), ("valid", "chelsea.png")):
        (tmp_path / folder).mkdir()
        cv2.imwrite(str(tmp_path / folder / photo), photograph(photo))
    np.savez(tmp_path / "lpips.npz", **lpips_weights())
    arguments = [str(tmp_path / "out"), "--source", str(tmp_path / "train")]
    arguments += ["--valid-source", str(tmp_path / "valid")]
    arguments += ["--benchmarks", str(benchmark_folder(tmp_path / "Set1"))]
    arguments += ["--lpips-weights", str(tmp_path / "lpips.npz"), "--seeds", "0"]
    arguments += ["--config", str(tmp_path / "tiny.yaml")]
    result = run("quality", *arguments)
    log = (tmp_path / "out/run-0/metrics.jsonl").read_bytes()
    assert run("quality", *arguments) == result
    assert (tmp_path / "out/run-0/metrics.jsonl").read_bytes() == log
    (seed,) = result["seeds"]
    assert (seed["seed"], seed["steps"]) == (0, 4)
    records = [json.loads(line) for line in log.splitlines()]
    for phase, seconds in seed["seconds"].items():
        of_phase = sum(record["seconds"] for record in records if record["phase"] == phase)
        assert seconds == pytest.approx(of_phase, rel=1e-3)
    answers = [record["d_hr"] for record in records if record["phase"] == "gan"]
    assert seed["d_hr"] == pytest.approx([min(answers), max(answers)], rel=1e-3)
    scores = seed["scores"]["Set1"]
    assert list(scores) == ["bicubic", "srresnet", "srgan"]
    assert scores["bicubic"]["psnr_y"] > 20
    assert len({one["lpips"] for one in scores.values()}) == 3


@pytest.mark.slow
def test_upscale():
    sizes = ("--size", "60x40", "--engine-size", "40x40", "--blocks", "1", "--filters", "4")
    result = run("upscale", *sizes, "--repeats", "1")
    assert result["sr_megapixels"] == pytest.approx(16 * 60 * 40 / 1e6)
    # TensorFlow alone takes more; with Ray's processes it is never below that.
    assert result["job_peak_megabytes"] > result["keras"]["peak_megabytes"] / 2 > 50
    assert (result["keras"]["levels_apart"], result["keras"]["share_apart"]) == (0, 0)
    for engine in ("saved_model", "onnx", "torch"):
        if importlib.util.find_spec("torch") or engine != "torch":
            assert result[engine]["levels_apart"] <= 1
            assert result[engine]["share_apart"] < 1e-3
            assert result[engine]["megapixels_per_second"] > 0
        else:
            assert result[engine] == "skipped: not installed"
