"""`jobs.prepare` killed at random moments, or started twice at once: the bytes are always right."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import cv2
import pytest
import ray

from data_pipeline.platform.hashing import file_sha256
from data_pipeline.prepare.build import prepare
from tests.conftest import PATIENCE, ROOT, data_settings, photograph
from tests.data_pipeline.prepare.test_build import contents

PARTS = 43

# The command, with every image a shard of its own: many parts from few bytes. The driver takes its
# time, so that a kill meets work on the fastest machine.
PROGRAM = """
import time
import data_pipeline.prepare.build as build
from data_pipeline.platform.progress import Progress
from jobs.command import run
from jobs.prepare import main
build._SHARD_SOURCE_BYTES = 1
advance = Progress.advance
Progress.advance = lambda self: time.sleep(0.05) or advance(self)
run(main)
"""


class Command:
    """One start of the command in a process group of its own."""

    def __init__(self, sources: Path, out: Path, environment: dict[str, str]):
        self.out, self.log = out, out.with_name(f"{out.name}-{time.monotonic_ns()}.log")
        given = ["--source", sources / "source", "--valid-source", sources / "valid"]
        arguments = [*given, "--patch-size", 48, "--stride", 24, "--out", out]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, *map(str, arguments)],
                cwd=ROOT,
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait_for_parts(self, count: int) -> None:
        """Until `count` parts have their record or the command is over."""
        deadline = time.monotonic() + PATIENCE
        while self.process.poll() is None and finished_parts(self.out) < count:
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.002)

    def kill(self) -> bool:
        """Whether it was still at work. Ray's processes are left to notice by themselves."""
        self.process.kill()
        code = self.process.wait()
        assert code in (0, -9), self.log.read_text()
        return code == -9

    def kill_group(self) -> None:
        """Ends what Ray leaves behind where its driver was killed."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def end(self, code: int = 0) -> str:
        """Waits for its end; returns what it printed."""
        found = self.process.wait(PATIENCE)
        assert found == code, self.log.read_text()
        return self.log.read_text()


def finished_parts(out: Path) -> int:
    return len(list(out.glob("progress/*/*.json")))


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> Path:
    """40 training photographs of 96 to 240 px and 3 for validation."""
    folder = tmp_path_factory.mktemp("kills")
    for name, photo, count in (("source", "astronaut.png", 40), ("valid", "chelsea.png", 3)):
        (folder / name).mkdir()
        image = photograph(photo)
        for number in range(count):
            side = 96 + 48 * (number % 4)
            crop = image[number : number + side, 2 * number : 2 * number + side]
            cv2.imwrite(str(folder / name / f"{number:02}.png"), crop)
    return folder


@pytest.fixture(scope="module")
def start(sources) -> Iterator[Callable[[Path, dict[str, str]], Command]]:
    commands = []

    def call(out: Path, environment: dict[str, str]) -> Command:
        commands.append(Command(sources, out, environment))
        return commands[-1]

    yield call
    for command in commands:
        command.kill_group()


@pytest.fixture(scope="module")
def environments(tmp_path_factory, ray_local) -> dict[str, dict[str, str]]:
    """The command's environment: it uses this process's Ray, as on a cluster, or starts one."""
    own = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    own["SRGAN_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    address = ray.get_runtime_context().gcs_address
    return {"own Ray": own, "cluster": own | {"RAY_ADDRESS": address}}


@pytest.fixture(scope="module")
def whole(sources, ray_local) -> dict[str, str]:
    """What an undisturbed build of the same settings writes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("data_pipeline.prepare.build._SHARD_SOURCE_BYTES", 1)
        prepare(data_settings(sources / "source", sources / "valid"), str(sources / "whole"))
    whole = contents(sources / "whole")
    assert len([key for key in whole if key.startswith("train/")]) == PARTS - 3
    return whole


def assert_all_whole(out: Path, whole: dict[str, str]) -> None:
    """What a killed command left under a final name is what an undisturbed one writes."""
    for pattern in ("train/*", "valid/*/*", "manifest.json"):
        for path in out.glob(pattern):
            if not path.name.startswith("."):
                assert file_sha256(path) == whole[str(path.relative_to(out))], path


@pytest.mark.parametrize(
    "kind", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_a_stopped_prepare_goes_on(kind, start, environments, whole, tmp_path):
    out = tmp_path / "out"
    command = start(out, environments["own Ray"])
    command.wait_for_parts(1)
    command.process.send_signal(kind)
    command.end(-9 if kind == signal.SIGKILL else 1)
    assert not (out / "manifest.json").exists()
    assert_all_whole(out, whole)
    assert "parts are done already" in start(out, environments["own Ray"]).end()
    assert contents(out) == whole


@pytest.mark.parametrize(
    ("where", "data_sets", "kills_in_a_row"),
    [
        pytest.param("cluster", 1, 2, marks=pytest.mark.slow),
        pytest.param("cluster", 3, 6, marks=pytest.mark.soak),
        pytest.param("own Ray", 1, 2, marks=pytest.mark.soak),
    ],
)
def test_killed_at_random_moments_the_bytes_are_the_same(
    start, environments, whole, tmp_path, where, data_sets, kills_in_a_row
):
    """One of each row of kills comes at any moment from the command's start on.

    The others come after a random number of further parts. All numbers are drawn from a seed.
    """
    draws = random.Random(2026)
    begun = time.monotonic()
    first = start(tmp_path / "first", environments[where])
    first.wait_for_parts(1)
    start_up = time.monotonic() - begun
    first.end()
    for number in range(data_sets):
        out = tmp_path / f"out{number}"
        early = draws.randrange(kills_in_a_row)
        kills = 0
        while kills < kills_in_a_row:
            done = finished_parts(out)
            command = start(out, environments[where])
            if kills == early or done == PARTS:
                time.sleep(draws.uniform(0, 2 * start_up))
            else:
                command.wait_for_parts(done + draws.randint(1, (PARTS - done + 1) // 2))
                time.sleep(draws.uniform(0, 0.05))
            if command.kill():
                kills += 1
                assert_all_whole(out, whole)
            else:  # it was done, and the next kill needs work
                assert contents(out) == whole
                shutil.rmtree(out)
        start(out, environments[where]).end()
        assert contents(out) == whole
    cache = Path(environments[where]["SRGAN_CACHE"])
    assert not [path for path in cache.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    "pause",
    [pytest.param(0.0, marks=pytest.mark.slow), pytest.param(0.5, marks=pytest.mark.soak)],
)
def test_two_commands_at_once_end_well(start, environments, whole, tmp_path, pause):
    out = tmp_path / "out"
    one = start(out, environments["cluster"])
    time.sleep(pause)
    other = start(out, environments["cluster"])
    for command in (one, other):
        assert "40 shards, 3 validation images" in command.end()
    assert contents(out) == whole


def test_killed_after_the_manifest_nothing_temporary_stays(
    monkeypatch, photos, valid_photos, small_data, tmp_path
):
    """As a kill leaves it before the parts' records and the manifest's own leftover are gone."""
    settings, out = data_settings(photos, valid_photos), tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr("data_pipeline.prepare.resume.DataFolder._clean_up", lambda data: None)
        prepare(settings, str(out))
    assert finished_parts(out) == 4
    (out / ".manifest.json.abc.partial").write_bytes((out / "manifest.json").read_bytes())
    prepare(settings, str(out))
    assert contents(out) == contents(small_data)
