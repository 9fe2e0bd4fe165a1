"""What the command lines of all jobs share: one-line errors, exit codes, logging."""

import argparse
import sys
from collections.abc import Callable
from typing import NoReturn

from data_pipeline.platform.errors import JobFailedError, UserError
from data_pipeline.platform.logs import configure_logging


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
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except (JobFailedError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except _ray_errors() as error:
        from data_pipeline.platform.deaths import one_line

        print(f"error: {one_line(error)}; run the same command again to go on", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted: run the same command again to go on", file=sys.stderr)
        sys.exit(1)
    sys.exit(0)


def _ray_errors() -> tuple[type[Exception], ...]:
    """The errors of Ray; none in a process that did not need Ray, whose import takes a second."""
    exceptions = sys.modules.get("ray.exceptions")
    return (exceptions.RayError,) if exceptions else ()
