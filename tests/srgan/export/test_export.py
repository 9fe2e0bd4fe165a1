"""Exports of a RUN by the command: files, facts, card, and what is refused."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from ruamel.yaml import YAML

from data_pipeline.platform.storage import open_storage
from data_pipeline.platform.storage.local import LocalStorage
from jobs import export
from srgan.best import Best, write_best
from srgan.export import check, formats, onnx_file
from srgan.export.export import CARD
from srgan.trained import open_generator
from tests.conftest import ROOT, assert_refused, photograph


@pytest.fixture(scope="module")
def stored_run(tmp_path_factory) -> Path:
    """A RUN of one epoch with its data set and an evaluation."""
    folder = tmp_path_factory.mktemp("stored")
    with tarfile.open(ROOT / "tests/data/made_by_5456114.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    noted = folder / "run" / "dataset.json"
    described = json.loads(noted.read_text())
    noted.write_text(json.dumps(described | {"uri": str(folder / "arrow")}))
    return folder / "run"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Small pictures; the environment as it was."""
    monkeypatch.setattr(check, "_SIDE", 24)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


@pytest.fixture(scope="module")
def exported(tmp_path_factory, stored_run):
    """Exports once for each format; tests must not change them."""
    made = {}

    def make(name, command):
        if name not in made:
            out = tmp_path_factory.mktemp("exports") / name
            made[name] = out, command(export, "--run", stored_run, "--format", name, out)
        return made[name]

    return make


def files(out: Path) -> list[str]:
    return sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())


on_every_format = pytest.mark.parametrize(
    "name", ["onnx", "saved_model", pytest.param("keras", marks=pytest.mark.slow)]
)


@on_every_format
def test_an_export_is_written_compared_and_described(name, exported, command, stored_run):
    out, done = exported(name, command)
    assert done.code == 0, done
    lines = done.out.splitlines()
    # Six photographs, 1x1, 7x5 and 4001x3.
    expected = f"{name}: equal on all " if name == "keras" else f"{name}: "
    assert lines[0].startswith(expected)
    assert lines[0].endswith(" values of 9 pictures")
    assert lines[-1] == f"{out}: epoch-0001, x4, as {name}; how to load it: {out}/README.md"
    own = {
        "onnx": ["model.onnx"],
        "keras": ["model.keras"],
        "saved_model": [
            "fingerprint.pb",
            "saved_model.pb",
            "variables/variables.data-00000-of-00001",
            "variables/variables.index",
        ],
    }
    assert files(out) == sorted([*own[name], "README.md", "srgan.json"])
    facts = json.loads((out / "srgan.json").read_text())
    assert (facts["format"], facts["scale"], facts["colour_order"]) == (name, 4, "RGB")
    assert facts["input"].startswith("float32" if name == "keras" else "uint8")
    assert facts["config"]["generator"]["filters"] == 4
    assert facts["data_set"]["images"] == 3
    (scores,) = facts["scores"]
    assert scores["generator"]["psnr_rgb"] == pytest.approx(16.51, abs=5e-3)  # as its psnr.csv
    assert scores["bicubic"]["psnr_rgb"] == pytest.approx(27.71, abs=5e-3)
    if name == "keras":
        with zipfile.ZipFile(out / "model.keras") as archive:
            assert json.loads(archive.read("srgan.json")) == facts
        assert open_generator(str(out / "model.keras")).scale == 4
    if name == "saved_model":
        assert b"/tmp" not in (out / "saved_model.pb").read_bytes()


@pytest.mark.parametrize(
    "name", ["onnx", *(pytest.param(n, marks=pytest.mark.slow) for n in ("saved_model", "keras"))]
)
def test_the_cards_five_lines_upscale_a_picture(name, exported, command, stored_run, tmp_path):
    out = shutil.copytree(exported(name, command)[0], tmp_path / "out")
    (snippet,) = (out / CARD).read_text().split("```python\n")[1:]
    lines = snippet.split("```")[0]
    assert len(lines.splitlines()) == 5
    lr = np.ascontiguousarray(photograph("chelsea.png")[100:137, 100:150, ::-1])
    PIL.Image.fromarray(lr).save(out / "lr.png")
    with_us = {"PYTHONPATH": str(ROOT)} if name == "keras" else {}
    flags = [] if with_us else ["-I"]
    subprocess.run(
        [sys.executable, *flags, "-c", lines], cwd=out, env={**os.environ, **with_us}, check=True
    )
    sr = np.asarray(PIL.Image.open(out / "sr.png"))
    expected = open_generator(str(stored_run)).upscale(lr)
    assert np.abs(sr.astype(int) - expected).max() <= 1


def test_the_card_has_what_hugging_face_reads(exported, command):
    card = (exported("onnx", command)[0] / CARD).read_text()
    _, front, body = card.split("---\n", 2)
    fields = YAML(typ="safe").load(front)
    assert fields["license"] == "unknown"
    assert fields["library_name"] == "onnx"
    assert fields["pipeline_tag"] == "image-to-image"
    assert {"super-resolution", "x4", "onnx"} <= set(fields["tags"])
    (model,) = fields["model-index"]
    (result,) = model["results"]
    assert result["task"]["type"] == "image-to-image"
    assert result["dataset"] == {"type": "arrow", "name": "arrow"}
    assert {"type": "psnr", "name": "PSNR RGB", "value": 16.51} in result["metrics"]
    for part in (
        "3,643 parameters; 2.5 GFLOPs for a megapixel",
        "Compared with Keras after it was written",
        "| PSNR RGB (dB) | 16.51 | 27.71 |",
        "- border: 4 px cut",
        "3 images of `train`",
        "not known; ask who made the data set",
        "adversarial 0.001",
        "It was trained with a discriminator",
    ):
        assert part in body, part
    assert "NIQE" not in body  # not measured


def test_the_same_again_changes_nothing_and_another_export_is_refused(
    exported, command, stored_run, tmp_path
):
    out = shutil.copytree(exported("onnx", command)[0], tmp_path / "out")
    before = {name: (out / name).read_bytes() for name in files(out)}
    done = command(export, "--run", stored_run, "--format", "onnx", out)
    assert done.code == 0
    assert done.out == f"{out}: holds this export already, nothing to do\n"
    (out / "srgan.json").write_text(json.dumps(json.loads(before["srgan.json"]) | {"sha256": "0"}))
    done = command(export, "--run", stored_run, "--format", "onnx", out)
    assert_refused(done, f"{out}: holds another export, which differs in sha256; choose another")
    (out / "srgan.json").write_bytes(before["srgan.json"][:-20])
    done = command(export, "--run", stored_run, "--format", "onnx", out)
    assert_refused(done, "srgan.json: is damaged; choose another OUT")
    done = command(export, "--run", stored_run, "--format", "saved_model", out)
    assert_refused(done, f"{out}: holds model.onnx already; choose another OUT")
    assert (out / "model.onnx").read_bytes() == before["model.onnx"]


@pytest.mark.parametrize("left", [["srgan.json", "model.onnx"], ["srgan.json", "README.md"]])
def test_an_export_that_lacks_a_file_is_completed(left, exported, command, stored_run, tmp_path):
    """As one that was killed, or one that lost a file."""
    whole, _ = exported("onnx", command)
    for name in left:
        shutil.copy(whole / name, tmp_path)
    done = command(export, "--run", stored_run, "--format", "onnx", tmp_path)
    assert done.code == 0
    assert done.out.startswith("onnx: ")
    for name in files(whole):
        assert (tmp_path / name).read_bytes() == (whole / name).read_bytes(), name


def test_a_killed_export_leaves_the_facts_that_make_it_ours(
    command, stored_run, tmp_path, monkeypatch
):
    def write(storage, key, data):
        if key == "model.onnx":
            raise KeyboardInterrupt
        real(storage, key, data)

    real = LocalStorage.write
    monkeypatch.setattr(LocalStorage, "write", write)
    done = command(export, "--run", stored_run, "--format", "onnx", tmp_path)
    assert done.code == 1
    assert files(tmp_path) == ["srgan.json"]


@pytest.mark.parametrize("name", ["model.onnx", "README.md"])
def test_a_file_of_the_users_own_is_not_replaced(name, command, stored_run, tmp_path):
    """It has a name of ours, and no export made it."""
    (tmp_path / name).write_bytes(b"mine")
    done = command(export, "--run", stored_run, "--format", "onnx", tmp_path)
    assert_refused(done, f"{tmp_path}: holds {name} already; choose another OUT")
    assert files(tmp_path) == [name]
    assert (tmp_path / name).read_bytes() == b"mine"


def test_an_export_that_differs_is_no_export(command, stored_run, tmp_path, monkeypatch):
    """Its last bias is 4.1 levels too high."""

    def wrong(network):
        *ops, last = real(network)
        (number,) = (i for i, op in enumerate(ops) if op.output == last.inputs[0])
        kernel, bias = ops[number].weights
        ops[number] = ops[number]._replace(weights=(kernel, bias + np.float32(0.05)))
        return [*ops, last]

    real = onnx_file.operations
    monkeypatch.setattr(onnx_file, "operations", wrong)
    done = command(export, "--run", stored_run, "--format", "onnx", tmp_path / "out")
    assert done.code == 1
    assert "ONNX: differs by " in done.error
    assert " levels from Keras on " in done.error
    assert done.error.endswith("]: nothing is written")
    assert not (tmp_path / "out").exists()


def test_an_export_that_does_not_load_is_no_export(command, stored_run, tmp_path, monkeypatch):
    def broken(network, facts, folder):
        (folder / "model.onnx").write_bytes(b"no model")

    broken_format = formats.FORMATS["onnx"]._replace(write=broken)
    monkeypatch.setitem(formats.FORMATS, "onnx", broken_format)
    done = command(export, "--run", stored_run, "--format", "onnx", tmp_path / "out")
    assert done.code == 1
    assert "ONNX: what was written does not run (" in done.error
    assert not (tmp_path / "out").exists()


def test_an_export_that_is_killed_by_the_system_says_so(tmp_path):
    """The last line of a process that was killed is of anything."""
    kill = "import os; print('a warning', file=sys.stderr, flush=True); os.kill(os.getpid(), 9)"
    form = formats.FORMATS["onnx"]._replace(snippet=formats.Snippet("import numpy as np", kill, ""))
    picture = {"one": np.zeros((2, 2, 3), np.uint8)}
    with pytest.raises(Exception, match=r"does not run \(ended by signal 9; 9 often means: no mem"):
        check.compare(lambda lr: lr, tmp_path, form, picture, tmp_path)


def test_the_other_process_has_no_package_of_ours(stored_run, tmp_path, monkeypatch):
    snippet = formats.Snippet("import numpy as np", "import srgan", "sr = lr")
    form = formats.FORMATS["onnx"]._replace(snippet=snippet)
    picture = {"one": np.zeros((2, 2, 3), np.uint8)}
    with pytest.raises(Exception, match=r"import of srgan halted; None in sys\.modules"):
        check.compare(lambda lr: lr, tmp_path, form, picture, tmp_path)


def test_an_image_of_another_shape_is_no_export(tmp_path):
    snippet = formats.Snippet("import numpy as np", "", "sr = lr[:1]")
    form = formats.FORMATS["onnx"]._replace(snippet=snippet)
    picture = {"one": np.zeros((2, 2, 3), np.uint8)}
    with pytest.raises(Exception, match=r"gives uint8 \[1, 2, 3\] for one, and Keras uint8 \[2, 2"):
        check.compare(lambda lr: lr, tmp_path, form, picture, tmp_path)


def test_the_difference_is_counted(tmp_path):
    """One process adds 2 to one value of a picture of 12."""
    snippet = formats.Snippet("import numpy as np", "", "sr = lr.copy(); sr[1, 0, 2] -= 2")
    form = formats.FORMATS["onnx"]._replace(snippet=snippet)
    pictures = {"one": np.full((2, 2, 3), 9, np.uint8), "two": np.full((2, 2, 3), 1, np.uint8)}
    found = check.compare(lambda lr: lr, tmp_path, form, pictures, tmp_path)
    # 1 - 2 is 255 in uint8.
    assert found == (254, "two at [1, 0, 2]", 2 / 24, 24, 2)
    assert str(found) == "at most 254 levels apart, on 8.3333% of 24 values of 2 pictures"
    assert str(found._replace(levels=0, share=0)) == "equal on all 24 values of 2 pictures"


def test_to_a_bucket(bucket, command, stored_run, exported):
    whole, _ = exported("onnx", command)
    uri = f"s3://{bucket}/exports/x4"
    done = command(export, "--run", stored_run, "--format", "onnx", uri)
    assert done.code == 0
    stored = open_storage(uri)
    assert [one.key for one in stored.list()] == files(whole)
    assert stored.read("model.onnx") == (whole / "model.onnx").read_bytes()


def test_without_the_extra(command, stored_run, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    done = command(export, "--run", stored_run, "--format", "onnx", tmp_path / "out")
    assert_refused(done, '--format onnx: needs onnx and onnxruntime; pip install "srgan')
    assert not (tmp_path / "out").exists()


def test_the_best_epoch_says_by_what(command, stored_run, tmp_path):
    run = shutil.copytree(stored_run, tmp_path / "run")
    arguments = ["--run", run, "--epoch", "best", "--format", "onnx", tmp_path / "out"]
    assert_refused(command(export, *arguments), "has no best.json")
    sha256 = open_generator(str(run)).sha256
    best = Best(
        1, sha256, "psnr_y", 17.243, "dB", "Set5", 5, 0, {1: 17.243}, "2026-01-31T03:12:45Z"
    )
    write_best(open_storage(str(run)), best)
    assert command(export, *arguments).code == 0
    line = "- It is the best epoch of its run by PSNR Y (17.24 dB on Set5; epochs compared: 1)."
    assert line in (tmp_path / "out" / CARD).read_text()


def test_wrong_arguments(command, stored_run, tmp_path):
    out = tmp_path / "out"
    run = ["--run", stored_run]
    assert_refused(command(export, *run, "--format", "tflite", out), "--format", "'tflite'")
    assert_refused(
        command(export, *run, "--epoch", "last", "--format", "onnx", out),
        "last: expected an epoch as in 75, or best",
    )
    assert_refused(
        command(export, *run, "--epoch", 7, "--format", "onnx", out),
        "holds no generator of epoch 7; it has [1]",
    )
    assert_refused(command(export, "--run", tmp_path, "--format", "onnx", out), "pass a RUN")
    assert_refused(
        command(export, *run, "--format", "onnx", tmp_path / "x.onnx"),
        "x.onnx: OUT becomes a folder of files; leave the suffix out",
    )
    assert not out.exists()
