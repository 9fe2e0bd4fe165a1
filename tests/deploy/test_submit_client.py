"""Submitting: what a job takes along, tokens, and following a job over a bad line."""

import io
import logging
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from zipfile import ZipFile

import pytest
import yaml
from ray._private.authentication import authentication_utils as auth_utils
from ray._private.runtime_env.packaging import create_package

from deploy import submit
from deploy.submit import too_large, without_secrets
from tests.conftest import ROOT
from tests.deploy.job_server import LOG, JobServer, job_server
from tests.deploy.test_docker import image_files

EXCLUDES = yaml.safe_load((ROOT / "deploy/runtime_env.yaml").read_text())["excludes"]


@pytest.fixture
def checkout(tmp_path) -> Path:
    """The source, a user's experiment, and what jobs left there."""
    root = tmp_path / "checkout"
    for name in (
        "jobs/train.py",
        "srgan/evaluation/table.py",
        "srgan/evaluation/report.html.j2",
        "srgan/weights/lpips_alexnet.npz",
        "data_pipeline/images.py",
        "configs/demo.yaml",
        "experiment.yaml",
        "jobs/__pycache__/train.pyc",
        "configs/.env",
        "README.md",
        "div2k/valid/hr/0801.png",
        "div2k/manifest.json",
        "run/evaluation/div2k/sr/epoch-0001/0801.png",
        "run/generators/epoch-0001.keras",
        "x/y",
        ".venv/bin/python",
        "weights.npz",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"1" * 1000)
    return root


def test_the_source_goes_along_and_nothing_that_jobs_left(checkout, tmp_path):
    create_package(str(checkout), tmp_path / "p.zip", include_gitignore=True, excludes=EXCLUDES)
    assert sorted(ZipFile(tmp_path / "p.zip").namelist()) == [
        "configs/demo.yaml",
        "data_pipeline/images.py",
        "experiment.yaml",
        "jobs/train.py",
        "srgan/evaluation/report.html.j2",
        "srgan/evaluation/table.py",
        "srgan/weights/lpips_alexnet.npz",
    ]
    assert too_large(checkout, EXCLUDES) is None


def test_too_much_is_told_with_the_largest_files(checkout):
    for number, megabytes in enumerate((50, 10, 70, 1)):
        with (checkout / f"configs/{number}.h5").open("wb") as file:
            file.truncate(megabytes << 20)
    assert too_large(checkout, EXCLUDES) == (
        f"{checkout}: a job would take 131 MB along, more than 100; the largest are "
        "configs/2.h5 70 MB, configs/0.h5 50 MB, configs/1.h5 10 MB: put them into the bucket"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--address", "http://127.0.0.1:9", "train"], "error: http://127.0.0.1:9: "),
        (["--address", "head:6379", "train"], "error: --address head:6379: say http://HOST:PORT"),
        (["nothing"], "invalid choice: 'nothing'"),
        ([], "the following arguments are required: job"),
    ],
)
def test_wrong_input_is_one_line_and_code_2(arguments, message):
    done = subprocess.run(
        [sys.executable, ROOT / "deploy/submit.py", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert message in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


@pytest.fixture
def server() -> Iterator[JobServer]:
    with job_server() as server:
        yield server


@pytest.fixture
def run(server, monkeypatch, capsys, tmp_path) -> Callable[..., tuple[int, str, list[str]]]:
    """Runs the program in this process; returns exit code, standard output, lines of errors."""
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_OVERRIDE_RUNTIME_ENV_DEFAULT_EXCLUDES", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    # As in a new process: a Ray that this one has started has switched tokens on.
    monkeypatch.setattr(auth_utils, "is_token_auth_enabled", lambda: False)
    monkeypatch.setattr(submit, "_SECONDS_BETWEEN_LOOKS", 0.01)

    def run(*arguments: str) -> tuple[int, str, list[str]]:
        monkeypatch.setattr(sys, "argv", ["submit", "--address", server.url, *arguments])
        with pytest.raises(SystemExit) as end:
            submit.main()
        out, err = capsys.readouterr()
        return end.value.code, out, err.splitlines()

    yield run
    logging.disable(logging.NOTSET)


TOKEN = "a" * 64


def put_token(home: Path, token: str) -> None:
    (home / ".ray").mkdir()
    (home / ".ray/auth_token").write_text(f"{token}\n")


def test_a_job_ends_as_it_does_there(server, run):
    server.status, server.exit_code = "FAILED", 3
    code, out, errors = run("evaluate", "--run", "s3://b/run")
    assert (code, errors) == (3, [])
    first, *log, last = out.splitlines(keepends=True)
    assert first == "submitted job_1: python -m jobs.evaluate --run s3://b/run\n"
    assert log == LOG
    assert last == "job_1: FAILED\n"
    (given,) = server.submitted
    assert given["entrypoint"] == "python -m jobs.evaluate --run s3://b/run"
    assert set(server.headers) == {None}


@pytest.mark.parametrize("where", ["file", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_TOKEN"])
def test_a_token_is_sent_where_there_is_one(server, run, where, monkeypatch, tmp_path):
    server.token = TOKEN
    if where == "RAY_AUTH_TOKEN":
        monkeypatch.setenv(where, TOKEN)
    else:
        put_token(tmp_path, TOKEN)
    if where == "RAY_AUTH_TOKEN_PATH":
        path = (tmp_path / ".ray/auth_token").rename(tmp_path / "other")
        monkeypatch.setenv(where, str(path))
    assert run("prepare")[0] == 0
    assert set(server.headers) == {f"Bearer {TOKEN}"}


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        (None, "Authentication required: Unauthorized: Missing authentication token"),
        ("b" * 64, "Authentication failed: Forbidden: Invalid authentication token"),
    ],
)
def test_no_token_or_a_wrong_one_is_one_line(server, run, token, reason, tmp_path):
    server.token = TOKEN
    if token:
        put_token(tmp_path, token)
    code, out, errors = run("prepare")
    assert (code, out) == (2, "")
    assert errors == [
        f"error: {server.url}: {reason}; set RAY_AUTH_MODE=token, and copy ~/.ray/auth_token of "
        "the head to the same place here, or set RAY_AUTH_TOKEN_PATH"
    ]


def test_a_server_that_never_answers_is_one_line(server, run, monkeypatch):
    monkeypatch.setattr(submit, "_ANSWER_SECONDS", 0.2)
    server.is_stuck = True
    code, _, (error,) = run("prepare")
    assert code == 2
    assert "Read timed out" in error
    assert error.endswith("; check --address and the tunnel")


@pytest.mark.parametrize("name", ["RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"])
def test_the_address_that_is_named_is_used(server, run, name, monkeypatch):
    monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert run("prepare")[0] == 0
    assert len(server.submitted) == 1


@pytest.mark.parametrize(
    ("plan", "told"),
    [
        ([(4, "cut"), (6, "end")], 1),
        ([(3, "cut"), (0, "down"), (2, "cut"), (6, "end")], 1),
        ([(2, "cut"), (0, "502"), (5, "cut"), (6, "end")], 2),
        ([(0, "502"), (0, "502"), (6, "end")], 1),
        ([(2, "close"), (6, "end")], 0),
        ([(4, "silent"), (6, "end")], 0),
        ([(4, "end, cut"), (6, "end")], 1),
    ],
)
def test_a_blip_loses_no_line_and_repeats_none(server, run, plan, told, monkeypatch):
    monkeypatch.setattr(submit, "_SILENT_SECONDS", 0.5 if (4, "silent") in plan else 60)
    server.plan = plan
    code, out, errors = run("train")
    assert code == 0
    assert out.splitlines(keepends=True)[1:-1] == LOG
    assert len(errors) == told
    for error in errors:
        assert error.startswith("lost the log of job_1: ")
        assert error.endswith("; asking again, for 10 minutes if nothing answers")


@pytest.mark.parametrize(("last", "code"), [("down", 1), ("502", 3)])
def test_patience_has_an_end(server, run, last, code, monkeypatch):
    """The exit code of a job that has ended is known, if only its log is not to be had."""
    monkeypatch.setattr(submit, "_PATIENCE_SECONDS", 0.1)
    server.status, server.exit_code = "FAILED", 3
    server.plan = [(4, "end, cut"), (0, last)]
    found, out, errors = run("train")
    assert found == code
    assert out.splitlines(keepends=True)[1:5] == LOG[:4]
    assert errors[1].startswith("gave up the log of job_1: ")
    assert ("job_1 may go on: see `ray job logs --follow job_1`" in errors) == (code == 1)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("--run r --alert-url https://h/SECRET", "--run r --alert-url ..."),
        ("--alert-url=https://h/SECRET --run r", "--alert-url=... --run r"),
        ("--al https://h/SECRET --all x", "--al ... --all x"),
        ("--a=https://h/SECRET", "--a=..."),
        ("--address a --run --alert-url", "--address a --run --alert-url"),
    ],
)
def test_the_webhook_is_no_part_of_what_is_shown(given, shown):
    assert without_secrets(shlex.split(given)) == shlex.split(shown)


def test_the_webhook_is_submitted_and_not_shown(server, run):
    code, out, errors = run("evaluate", "--alert-url", "https://h/SECRET")
    assert (code, errors) == (0, [])
    assert out.startswith("submitted job_1: python -m jobs.evaluate --alert-url ...\n")
    assert server.submitted[0]["entrypoint"].endswith(" --alert-url https://h/SECRET")


def test_the_image_submits_its_own_source(server, tmp_path):
    """As the nightly job and the crontab line do."""
    files = image_files()
    for path in files:
        (tmp_path / "opt/srgan" / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / path, tmp_path / "opt/srgan" / path)
    script = tmp_path / "opt/srgan/deploy/submit.py"
    done = subprocess.run(
        [sys.executable, script, "--address", server.url, "evaluate", "--run", "s3://b/run"],
        cwd="/",
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    sent = {"jobs", "srgan", "data_pipeline", "configs"}
    assert sorted(ZipFile(io.BytesIO(server.package_bytes)).namelist()) == sorted(
        str(path) for path in files if path.parts[0] in sent
    )
