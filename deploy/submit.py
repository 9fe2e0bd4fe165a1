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

import yaml
from ray.job_submission import JobStatus, JobSubmissionClient

_ROOT = Path(__file__).parent.parent
_JOBS = sorted(path.stem for path in (_ROOT / "jobs").glob("[a-z]*.py") if path.stem != "command")

# Ray's job server takes 100 MiB, compressed.
_MOST_BYTES = 100 << 20
_SHOWN = 3

_SECONDS_BETWEEN_LOOKS = 1.0


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
    entrypoint = shlex.join(["python", "-m", f"jobs.{args.job}", *args.arguments])
    try:
        client = JobSubmissionClient(args.address)
        job = client.submit_job(
            entrypoint=entrypoint, runtime_env=runtime_env | {"working_dir": str(_ROOT)}
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:400]
        _refuse(
            f"{args.address}: {reason}; check --address and the tunnel. Where the cluster asks for "
            "a token, set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH"
        )
    print(f"submitted {job}: {entrypoint}", flush=True)
    try:
        sys.exit(_follow(client, job))
    except KeyboardInterrupt:
        given = f"--address {args.address} {job}"
        print(f"{job} goes on: see `ray job logs --follow {given}`, or `ray job stop {given}`")
        sys.exit(1)


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
    """Prints the log until the job has ended; returns the exit code."""

    async def show() -> None:
        async for lines in client.tail_job_logs(job):
            print(lines, end="", flush=True)

    while not client.get_job_status(job).is_terminal():
        try:
            asyncio.run(show())
        except (ConnectionError, RuntimeError) as error:
            print(f"lost the log of {job}: {error}; asking again", file=sys.stderr)
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    info: Any = client.get_job_info(job)
    print(f"{job}: {info.status}", flush=True)
    if info.status == JobStatus.SUCCEEDED:
        return 0
    if info.message:
        print(f"{job}: {info.message}", file=sys.stderr)
    return info.driver_exit_code or 1


def _refuse(problem: str) -> NoReturn:
    print(f"error: {problem}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
