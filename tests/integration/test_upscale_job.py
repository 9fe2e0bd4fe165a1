"""`jobs.upscale` from bucket to bucket, and killed at random moments: the bytes are the same."""

import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import cv2
import keras
import pytest

from data_pipeline.platform.storage import Storage, open_storage
from srgan.generator_file import save_generator
from srgan.networks import generator
from tests.conftest import new_bucket, photograph, use_server
from tests.integration.jobs import finish, start
from tests.s3_servers import S3Server

pytestmark = pytest.mark.slow

PICTURES = 12
KILLS = 2


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Path:
    """Pictures below `photos`, and a generator."""
    folder = tmp_path_factory.mktemp("upscale")
    (folder / "photos/sub ä").mkdir(parents=True)
    for number in range(PICTURES):
        place = "sub ä/" if number % 3 == 0 else ""
        crop = photograph("chelsea.png")[: 150 + number, 2 * number : 200 + 3 * number]
        suffix = ("png", "jpg", "tif", "webp")[number % 4]
        cv2.imwrite(str(folder / "photos" / f"{place}{number:02}.{suffix}"), crop)
    keras.utils.set_random_seed(1)
    network = generator(blocks=1, filters=4, batch_norm=False)
    save_generator(network, open_storage(str(folder)), "small.keras")
    return folder


@pytest.fixture(
    scope="module", params=["local", pytest.param("moto", marks=pytest.mark.soak), "ceph"]
)
def place(request, inputs) -> Iterator[str]:
    """A folder or bucket that holds `photos` and `small.keras`."""
    if request.param == "local":
        yield str(inputs)
        return
    server: S3Server = request.getfixturevalue(request.param)
    with pytest.MonkeyPatch.context() as patch:
        use_server(patch, server)
        uri = f"s3://{new_bucket(server)}"
        bucket = open_storage(uri)
        for path in (inputs / "small.keras", *inputs.glob("photos/**/*.*")):
            bucket.write(path.relative_to(inputs).as_posix(), path.read_bytes())
        yield uri


def contents(out: Storage) -> dict[str, bytes]:
    return {found.key: out.read(found.key) for found in out.list()}


def test_killed_at_random_moments_the_bytes_are_the_same(place):
    """The first kill comes at any moment from the start on, the others while results appear."""
    arguments = ("--weights", f"{place}/small.keras", f"{place}/photos")
    begun = time.monotonic()
    finish("upscale", *arguments, f"{place}/whole")
    whole = contents(open_storage(f"{place}/whole"))
    seconds = time.monotonic() - begun
    assert len(whole) == PICTURES + 1
    out, draws = open_storage(f"{place}/out"), random.Random(17)
    for kill in range(KILLS):
        process = start("upscale", *arguments, out.uri)
        if kill == 0:
            time.sleep(draws.uniform(0, seconds))
        else:
            before = len(out.list())
            while process.poll() is None and len(out.list()) <= before:
                time.sleep(0.01)
            time.sleep(draws.uniform(0, 0.5))
        with suppress(ProcessLookupError):  # workers die at this moment too
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        for key, data in contents(out).items():
            assert data == whole[key], key
    output = finish("upscale", *arguments, out.uri)
    assert f"x4, small: {out.uri}" in output or "complete, nothing to do" in output
    assert contents(out) == whole
    if not place.startswith("s3://"):
        assert not list(Path(out.uri).rglob(".*"))
