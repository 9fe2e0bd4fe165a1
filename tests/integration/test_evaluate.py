"""`jobs.evaluate` as a schedule runs it: alone, twice at once, killed, with limits."""

import csv
import io
import json
import random
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path

import cv2
import keras
import numpy as np
import pyarrow.parquet as pq
import pytest
import ray

from data_pipeline.images import decode_image
from data_pipeline.platform.storage import open_storage
from data_pipeline.prepare.build import prepare
from srgan.generator_file import save_generator
from srgan.networks import generator
from srgan.run_layout import generator_key
from tests.conftest import PATIENCE, data_settings, photograph, undated
from tests.integration.jobs import finish, output_of, start, wait_until

EPOCHS = 4


@pytest.fixture(scope="module")
def address(ray_local) -> str:
    return ray.get_runtime_context().gcs_address


@pytest.fixture(scope="module")
def data(tmp_path_factory, ray_local, photos) -> Path:
    """A data set with twelve validation images."""
    valid = tmp_path_factory.mktemp("valid")
    for number in range(12):
        crop = photograph("chelsea.png")[20 * number : 20 * number + 64, 100:196]
        cv2.imwrite(str(valid / f"{number:02}.png"), crop)
    out = tmp_path_factory.mktemp("data") / "dozen"
    prepare(data_settings(photos, valid), str(out))
    return out


@pytest.fixture
def run(tmp_path, data) -> Path:
    """A RUN as training leaves it after four epochs of its last phase."""
    folder = tmp_path / "run"
    storage = open_storage(str(folder))
    storage.write(
        "config.yaml",
        b"{generator: {blocks: 1, filters: 4}, phases: {gan: {epochs: 9, losses: {mse: 1}}}}",
    )
    storage.write("dataset.json", f'{{"uri": "{data}", "manifest_sha256": "abc"}}'.encode())
    keras.utils.set_random_seed(0)
    for epoch in range(1, EPOCHS + 1):
        save_generator(generator(blocks=1, filters=4), storage, generator_key(epoch))
    return folder


def results(run: Path) -> dict[str, bytes]:
    """Every file under its final name, but what tells the day and RUN's place."""
    folder = run / "evaluation" / "dozen"
    return {
        path.relative_to(folder).as_posix(): undated(path.read_bytes()).replace(
            str(run).encode(), b""
        )
        for path in folder.rglob("*")
        if path.is_file() and "history" not in str(path) and not path.name.startswith(".")
    }


def assert_whole(files: dict[str, bytes]) -> None:
    """Whatever is there can be used."""
    for name, data in files.items():
        if name.endswith(".parquet"):
            table = pq.read_table(io.BytesIO(data))
            assert table.num_rows % 12 == 0, name
        elif name.endswith(".csv"):
            header, *lines = csv.reader(io.StringIO(data.decode()))
            assert lines, name
            assert {len(line) for line in lines} == {len(header)}, name
        elif name.endswith(".html"):
            assert data.decode().rstrip().endswith("</html>")
        elif name.endswith(".md"):
            assert data.decode().rstrip().endswith(tuple("0123456789abcdef")), name
        elif name.endswith(".png"):
            decode_image(data)
        else:
            assert name == "protocol.json", name
            json.loads(data)


def test_a_run_alone_is_scored_on_its_own_data_set(run, data, address):
    output = finish("evaluate", "--run", run, address=address)
    assert "| epoch | nearest | bicubic | SRResNet | HR |" in output
    assert f"pictures, and how all this was measured: {run}/evaluation/dozen" in output
    files = results(run)
    assert_whole(files)
    table = list(csv.DictReader(io.StringIO(files["psnr.csv"].decode())))
    assert [row["epoch"] for row in table] == ["1", "2", "3", "4"]
    process = start(
        "evaluate",
        "--run",
        run,
        "--fail-below",
        "psnr_y=99",
        "--fail-drop",
        "ssim_y=1",
        address="127.0.0.1:1",
    )  # nothing to score: no Ray is asked for
    output = output_of(process, code=3)
    assert "already complete, nothing to score" in output
    assert "alert: epoch 4: psnr_y is " in output
    assert results(run) == files
    (run / "evaluation/dozen/scores/epoch-0002.parquet").unlink()
    (run / "evaluation/dozen/sr/epoch-0003/01.png").unlink()
    assert "evaluate: 12 of 12 images" in finish("evaluate", "--run", run, address=address)
    files.pop("sr/epoch-0003/01.png")
    assert results(run) == files


@pytest.mark.parametrize(
    "kills", [pytest.param(1, marks=pytest.mark.slow), pytest.param(10, marks=pytest.mark.soak)]
)
def test_two_at_once_and_kills(run, address, kills):
    """The final bytes are those of an undisturbed evaluation, and all are whole in between."""
    alone = run.parent / "alone" / "run"
    shutil.copytree(run, alone)
    finish("evaluate", "--run", alone, address=address)
    expected = results(alone)

    both = [start("evaluate", "--run", run, address=address) for _ in range(2)]
    for process in both:
        output_of(process, code=0)
    assert results(run) == expected

    draw = random.Random(0)
    for _ in range(kills):
        if len(results(run)) >= len(expected):
            shutil.rmtree(run / "evaluation")
        process = start("evaluate", "--run", run, address=address)
        wanted = draw.randint(len(results(run)), len(expected))
        wait_until(process, lambda: len(results(run)) >= wanted)  # noqa: B023
        time.sleep(draw.uniform(0, 0.1))
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=PATIENCE)
        assert_whole(results(run))
    finish("evaluate", "--run", run, address=address)
    assert results(run) == expected


def tree_megabytes(root: int) -> float:
    """Memory of a process and all below it; pages that several share count once."""
    parents, found = {}, [root]
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parents[int(folder.name)] = int(
                (folder / "stat").read_text().rpartition(")")[2].split()[1]
            )
    for ancestor in found:
        found += [process for process, parent in parents.items() if parent == ancestor]
    total = 0
    for process in found:
        with suppress(OSError):
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
            total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


@pytest.mark.slow
def test_a_large_image_takes_less_than_3_gigabytes(run, tmp_path):
    """4080x2712 pixels through the paper's generator, all processes together, Ray's too."""
    paper = generator()
    storage = open_storage(str(run))
    for epoch in range(1, EPOCHS + 1):
        (run / generator_key(epoch)).unlink()
    save_generator(paper, storage, generator_key(1))
    storage.write("config.yaml", b"phases: {gan: {epochs: 9, losses: {mse: 1}}}")
    (tmp_path / "large").mkdir()
    photo = photograph("chelsea.png")
    large = np.tile(photo, (10, 10, 1))[:2712, :4080]
    cv2.imwrite(str(tmp_path / "large/large.png"), large)
    process = start("evaluate", "--run", run, "--hr", tmp_path / "large")
    peak = 0.0
    while process.poll() is None:
        peak = max(peak, tree_megabytes(process.pid))
        time.sleep(0.2)
    assert process.returncode == 0, process.communicate()[0]
    assert 800 < peak < 3000
    assert (run / "evaluation/large/sr/epoch-0001/large.png").exists()
