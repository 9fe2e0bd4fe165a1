"""What the command lines of jobs share: one-line errors, exit codes, logging, an epoch."""

import argparse
import os
import sys
from collections.abc import Callable
from typing import Literal, NoReturn

from data_pipeline.platform.deaths import is_of_ray, one_line
from data_pipeline.platform.errors import JobFailedError, UserError
from data_pipeline.platform.logs import configure_logging

_UTF8_VARIABLE = "PYTHONUTF8"


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Prints one line and exits with code 2."""
        self.exit(2, f"error: {message} (see {self.prog} --help)\n")


def run(main: Callable[[], None]) -> NoReturn:
    """Runs a job and exits: 0 done, 2 the user's input is wrong, 1 anything else.

    Only an error that nobody foresaw has a traceback.
    """
    configure_logging()
    try:
        _use_utf8()
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except (JobFailedError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except Exception as error:
        if not is_of_ray(error):
            raise
        print(f"error: {one_line(error)}; run the same command again to go on", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted: run the same command again to go on", file=sys.stderr)
        sys.exit(1)
    sys.exit(0)


def epoch(text: str) -> int | Literal["best"]:
    """What --epoch of a RUN names, for argparse."""
    if text == "best":
        return "best"
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text}: expected an epoch as in 75, or best")
    return int(text)


def next_job(job: str, arguments: str) -> str:
    """The line that names the next job, to be started as this one was.

    Args:
        job: As `train`.
        arguments: Its arguments, quoted for a shell.
    """
    if "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ:  # this job was submitted
        return f'next: make submit-{job} ARGS="{arguments}"'
    return f"next: python -m jobs.{job} {arguments}"


def _use_utf8() -> None:
    """Starts this process anew where its locale is not UTF-8, as file names of images are."""
    encoding = sys.getfilesystemencoding()
    if encoding == "utf-8":
        return
    if os.environ.get(_UTF8_VARIABLE) == "1":
        raise UserError(f"Python reads file names as {encoding}: start it without -X utf8=0")
    os.environ[_UTF8_VARIABLE] = "1"
    os.execv(sys.executable, sys.orig_argv)  # noqa: S606
