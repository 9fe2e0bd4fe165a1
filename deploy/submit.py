"""Submits a job to a Ray cluster, shows its log, and exits with the job's own exit code.

    python deploy/submit.py [--address http://127.0.0.1:8265] prepare|train|evaluate|... ARGUMENTS

It needs `ray[default]` of the cluster's version, and no other package of the product. Run it in the
checkout: the job takes the source along, as deploy/runtime_env.yaml says.

Exit codes: the job's own where it ended by itself; 1 where it was stopped, or this program lost it;
2 where the input is wrong.
"""

import argparse
import asyncio
import logging
import os
import shlex
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

import aiohttp
import yaml
from ray.exceptions import AuthenticationError, RayError
from ray.job_submission import JobStatus, JobSubmissionClient

_ROOT = Path(__file__).parent.parent
_JOBS = sorted(path.stem for path in (_ROOT / "jobs").glob("[a-z]*.py") if path.stem != "command")

# Ray's job server takes 100 MiB, compressed.
_MOST_BYTES = 100 << 20
_SHOWN = 3

_SECONDS_BETWEEN_LOOKS = 1.0
_ANSWER_SECONDS = 120.0  # for one request: Ray would wait without limit
_SILENT_SECONDS = 300.0  # of the log: then the connection may be dead, and the status is asked
_PATIENCE_SECONDS = 600.0  # without any answer

# What Ray raises where a server fails or does not answer, or something else answers.
_FAILURES = (
    OSError,
    RuntimeError,
    ValueError,
    LookupError,
    asyncio.TimeoutError,
    aiohttp.ClientError,
    RayError,
)


class _Client(JobSubmissionClient):
    """Ray's client, whose requests do not wait for ever."""

    def _do_request(self, *args: Any, **kwargs: Any) -> Any:
        return super()._do_request(*args, timeout=_ANSWER_SECONDS, **kwargs)


def main() -> None:
    """Submits, shows the log, exits."""
    parser = argparse.ArgumentParser(
        prog="python deploy/submit.py", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--address", default="http://127.0.0.1:8265", help="the dashboard's")
    parser.add_argument("job", choices=_JOBS)
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="the job's own")
    args = parser.parse_args()
    logging.disable(logging.WARNING)  # Ray's modules set levels of their own
    os.environ["RAY_OVERRIDE_RUNTIME_ENV_DEFAULT_EXCLUDES"] = ""  # ours leave out more
    runtime_env = yaml.safe_load((_ROOT / "deploy/runtime_env.yaml").read_text())
    if problem := too_large(_ROOT, runtime_env["excludes"]):
        _refuse(problem)
    words = ["python", "-m", f"jobs.{args.job}", *args.arguments]
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):  # Ray would take them before --address
        os.environ.pop(name, None)
    if not args.address.startswith(("http://", "https://")):
        _refuse(
            f"--address {args.address}: say http://HOST:PORT of the dashboard, its port is 8265"
        )
    try:
        client = _Client(args.address, headers=_token_header())
        job = client.submit_job(
            entrypoint=shlex.join(words), runtime_env=runtime_env | {"working_dir": str(_ROOT)}
        )
    except AuthenticationError as error:
        _refuse(
            f"{args.address}: {error.message.splitlines()[0]}; set RAY_AUTH_MODE=token, and copy "
            "~/.ray/auth_token of the head to the same place here, or set RAY_AUTH_TOKEN_PATH"
        )
    except _FAILURES as error:
        _refuse(f"{args.address}: {_reason(error)}; check --address and the tunnel")
    try:
        print(f"submitted {job}: {shlex.join(without_secrets(words))}", flush=True)
        sys.exit(_follow(client, job))
    except (KeyboardInterrupt, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # no second error at the end
        given = f"--address {args.address} {job}"
        print(
            f"{job} goes on: see `ray job logs --follow {given}`, or `ray job stop {given}`",
            file=sys.stderr,
        )
        sys.exit(1)


def _token_header() -> dict[str, str]:
    """The header with the token, if there is one and RAY_AUTH_MODE says nothing.

    If it is set, Ray does this itself. Ray after 2.60 does it without the variable too. A server
    that needs no token ignores the header.
    """
    if "RAY_AUTH_MODE" in os.environ:
        return {}
    token = os.environ.get("RAY_AUTH_TOKEN")
    file = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or "~/.ray/auth_token").expanduser()
    if token is None and file.exists():
        token = file.read_text().strip()
    return {"Authorization": f"Bearer {token}"} if token else {}


def without_secrets(words: list[str]) -> list[str]:
    """Hides the value of `--alert-url` (or `--alert`: jobs take abbreviations) in a command."""
    shown, is_secret = [], False
    for word in words:
        name, equals, _ = word.partition("=")
        is_alert = name.startswith("--a") and "--alert-url".startswith(name)
        shown.append("..." if is_secret else f"{name}=..." if is_alert and equals else word)
        is_secret = is_alert and not equals and not is_secret
    return shown


def too_large(root: Path, excludes: list[str]) -> str | None:
    """Says which files are too large to go along; None where all is well.

    Args:
        root: The checkout.
        excludes: Of deploy/runtime_env.yaml: `/*`, and what goes along all the same, as `!/jobs`.
    """
    names = [line[2:] for line in excludes if line.startswith("!/") and line != "!/."]
    sent = [path for name in names for path in root.glob(name)]
    files = {path for one in sent for path in ([one] if one.is_file() else one.rglob("*"))}
    sizes = {path: path.stat().st_size for path in files if path.is_file()}
    total = sum(sizes.values())
    if total < _MOST_BYTES:
        return None
    largest = sorted(sizes, key=lambda path: -sizes[path])[:_SHOWN]
    names = ", ".join(f"{path.relative_to(root)} {sizes[path] >> 20} MB" for path in largest)
    return (
        f"{root}: a job would take {total >> 20} MB along, more than {_MOST_BYTES >> 20}; the "
        f"largest are {names}: put them into the bucket"
    )


def _follow(client: JobSubmissionClient, job: str) -> int:
    """Prints the log until the job has ended; returns the exit code.

    A server that does not answer is asked again: between there may be a tunnel, and jobs last days.
    """
    printed = 0  # characters: Ray sends the log from its beginning each time
    is_told = False

    async def show() -> None:
        nonlocal printed, is_told
        sent = 0
        log = client.tail_job_logs(job)
        while True:
            try:
                lines = await asyncio.wait_for(log.__anext__(), _SILENT_SECONDS)
            except StopAsyncIteration:
                return
            if new := lines[max(printed - sent, 0) :]:
                print(new, end="", flush=True)
                is_told = False
            sent += len(lines)
            printed = max(printed, sent)

    info: Any = None
    is_whole = False
    failing_since: float | None = None
    while True:
        try:
            info = client.get_job_info(job)
            has_ended = info.status.is_terminal()
            if has_ended and is_whole:
                break
            failing_since = failing_since if has_ended else None
            is_whole = False
            asyncio.run(show())
            is_whole = True
        except BrokenPipeError:  # standard output's: those of connections have other classes
            raise
        except _FAILURES as error:
            failing_since = failing_since or time.monotonic()
            if time.monotonic() - failing_since > _PATIENCE_SECONDS:
                print(f"gave up the log of {job}: {_reason(error)}", file=sys.stderr)
                if info and info.status.is_terminal():
                    break
                print(f"{job} may go on: see `ray job logs --follow {job}`", file=sys.stderr)
                return 1
            if not is_told and not isinstance(error, asyncio.TimeoutError):  # silence is no failure
                minutes = _PATIENCE_SECONDS / 60
                print(
                    f"lost the log of {job}: {_reason(error)}; asking again, for {minutes:.0f} "
                    "minutes if nothing answers",
                    file=sys.stderr,
                )
                is_told = True
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    print(f"{job}: {info.status}", flush=True)
    if info.status == JobStatus.SUCCEEDED:
        return 0
    if info.message:
        print(f"{job}: {info.message}", file=sys.stderr)
    return info.driver_exit_code or 1


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:400] or type(error).__name__


def _refuse(problem: str) -> NoReturn:
    print(f"error: {problem}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
