"""jobs.study as its owner types it."""

import shlex
import socket

import pytest

from jobs import study as job
from srgan.study.files import read_key
from tests.conftest import assert_refused
from tests.srgan.study.made import evaluated_run
from tests.srgan.study.serving import Client, serving


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return evaluated_run(tmp_path_factory.mktemp("source"))


def make(command, source, out, *options):
    benchmark, run = source
    images = ["--hr", benchmark.hr[0].storage.uri, "--crops", 4, "--crop-size", 64]
    return command(job, "make", "--run", run, *images, "--out", out, *options)


def test_make_says_what_it_made_and_what_comes_next(command, source, tmp_path):
    out = tmp_path / "a study"
    done = make(command, source, out, "--pairs", "--epoch", 1, "--seed", 5, "--pages", 1)
    assert done.code == 0
    *said, following = done.out.splitlines()
    assert said == [
        "4 crops of 64x64 px by nearest, bicubic, srresnet, srgan, hr (epoch 1)",
        "50 trials a rater in 1 session of at most 10 minutes",
        f"{out}: is a study; only you may see what is in it",
    ]
    assert shlex.split(following)[2:] == ["-m", "jobs.study", "serve", "--study", str(out)]
    assert (read_key(out).mode, read_key(out).epoch) == ("pairs", 1)
    assert (out / "pages/plan-00.html").exists()


def test_either_mode_has_as_many_crops_as_a_quarter_of_an_hour_takes(command, source, tmp_path):
    benchmark, run = source
    images = ["--hr", benchmark.hr[0].storage.uri, "--crop-size", 32]
    for options, crops, trials in (([], 16, 93), (["--pairs"], 8, 91)):
        out = tmp_path / f"study-{crops}"
        done = command(job, "make", "--run", run, *images, "--out", out, *options)
        said = done.out.splitlines()
        assert said[0].startswith(f"{crops} crops of 32x32 px by ")
        assert said[1] == f"{trials} trials a rater in 2 sessions of at most 10 minutes"


def test_a_study_in_a_bucket_is_refused(command, source):
    for call in (
        lambda: make(command, source, "s3://bucket/study"),
        lambda: command(job, "serve", "--study", "s3://bucket/study"),
        lambda: command(job, "score", "--study", "s3://bucket/study"),
    ):
        assert_refused(call(), "a study is a local folder")


def test_serve_says_what_is_wrong(command, source, tmp_path):
    assert_refused(command(job, "serve", "--study", tmp_path), "is no study; make one with")
    make(command, source, tmp_path / "study")
    serve = ["serve", "--study", tmp_path / "study"]
    assert_refused(command(job, *serve, "--port", 70000), "--port: expected 0 to 65535")
    assert_refused(command(job, *serve, "--host", "0.0.0.0"), "others can reach it; pass --token")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = command(job, *serve, "--port", port)
        assert_refused(done, f"--port {port}: Address already in use; pass others")


def test_serve_ends_well_and_goes_on(command, source, tmp_path):
    study = tmp_path / "study"
    make(command, source, study)
    with serving(study, "--token", "a1B2c3D4e5F6g7H8") as server:
        assert server.link == f"http://127.0.0.1:{server.port}/#a1B2c3D4e5F6g7H8"
        client = Client(server.port)
        client.join("a1B2c3D4e5F6g7H8")
        assert client.post("/api/rate", {"trial": 0, "answer": 1, "milliseconds": 2}).status == 200
    assert server.process.returncode == 0
    with serving(study, "--token", "a1B2c3D4e5F6g7H8") as server:
        client.port = server.port
        assert client.get("/api/study").json()["answered"] == [0]
