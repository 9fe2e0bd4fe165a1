"""An evaluation on GPUs. They are declared to Ray, not real: their processes compute on the CPU."""

import json
import logging
import os
import subprocess
import sys
from contextlib import ExitStack, suppress
from pathlib import Path
from unittest import mock

import cv2
import pytest
import ray

from data_pipeline.platform.devices import use_devices
from srgan.evaluation import score_jobs
from srgan.evaluation.benchmark import folder_benchmark
from srgan.evaluation.evaluate import evaluate
from srgan.evaluation.score_task import GpuMaker, make
from tests.conftest import PATIENCE, ROOT, photograph, undated

IMAGES = 13  # for three generators: 39 in all


def evaluate_apart(run: str, photos: str, out: str, gpus: str) -> None:
    """What the test runs in a process of its own. The GPUs' processes leave notes beside `out`."""
    calls = Path(f"{out}-calls")
    calls.mkdir()

    class FakeGpu(GpuMaker):
        def make(self, task, pair):
            formatters = [one.formatter for one in logging.getLogger().handlers]
            has_clock = any(one and one._fmt == "%(asctime)s %(message)s" for one in formatters)
            note = {"process": os.getpid(), "gpus": ray.get_gpu_ids(), "has_clock": has_clock}
            number = len(list(calls.iterdir()))
            (calls / f"{os.getpid()}-{number}.json").write_text(json.dumps(note))
            if number >= 5:
                with suppress(FileExistsError):
                    Path(f"{out}-died").touch(exist_ok=False)
                    os._exit(1)
            use_devices(cpus=task.cpus, gpus=0)
            return make(task, pair)

    with ExitStack() as stack:
        ray.init(
            address="local",
            num_cpus=2 if int(gpus) else 1,
            num_gpus=int(gpus),
            include_dashboard=False,
        )
        stack.callback(ray.shutdown)
        stack.enter_context(mock.patch.object(score_jobs, "GpuMaker", FakeGpu))
        benchmark = folder_benchmark(photos, None, scale=4, kernel="matlab")
        evaluate(benchmark, run_uri=run, out_uri=out, epochs=None)


@pytest.mark.slow
def test_a_process_on_each_gpu_lives_for_the_whole_evaluation(tmp_path):
    """The results are those of the CPU; a process that dies is started again."""
    from tests.srgan.evaluation.test_evaluation import gan_run

    gan_run(str(tmp_path / "run"), last_epoch=2)
    photos = tmp_path / "photos"
    photos.mkdir()
    image = photograph("astronaut.png")
    for number in range(IMAGES):
        part = image[20 * number : 20 * number + 48, 200:248]
        cv2.imwrite(str(photos / f"{number:02}.png"), part)
    for gpus in (0, 2):
        given = [tmp_path / "run", photos, tmp_path / f"gpus{gpus}", gpus]
        command = [sys.executable, "-m", "tests.srgan.evaluation.test_gpus", *map(str, given)]
        subprocess.run(command, cwd=ROOT, check=True, timeout=PATIENCE)
    assert not list((tmp_path / "gpus0-calls").iterdir())
    notes = [json.loads(path.read_text()) for path in (tmp_path / "gpus2-calls").iterdir()]
    assert len(notes) == 3 * IMAGES + 1  # one of them died
    assert all(note["has_clock"] for note in notes)
    by_process = {note["process"]: note["gpus"] for note in notes}
    assert all(by_process[note["process"]] == note["gpus"] for note in notes)
    gpus = sorted(map(tuple, by_process.values()))
    assert gpus in ([(0,), (0,), (1,)], [(0,), (1,), (1,)])
    on_cpu, on_gpus = (
        {
            str(path.relative_to(tmp_path / name)): undated(path.read_bytes())
            for path in (tmp_path / name).rglob("*.*")
            if path.suffix in (".csv", ".png", ".parquet") and path.name != "history.csv"
        }
        for name in ("gpus0", "gpus2")
    )
    assert {"scores.csv", "measures.csv", "images.parquet", "sr/srresnet/00.png"} <= set(on_cpu)
    assert on_gpus == on_cpu


if __name__ == "__main__":
    evaluate_apart(*sys.argv[1:])
