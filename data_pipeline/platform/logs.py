"""The log of a job, in its driver and in its workers."""

import logging


def configure_logging() -> None:
    """Logs plain lines with the time; libraries log warnings and errors only.

    In a worker this replaces Ray's console, whose lines have no time. Ray's files stay.
    """
    console = logging.StreamHandler()
    console.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    root = logging.getLogger()
    root.handlers = [*(one for one in root.handlers if not _is_console(one)), console]
    root.setLevel(logging.INFO)
    for library in ("boto3", "botocore", "s3transfer", "urllib3"):
        logging.getLogger(library).setLevel(logging.WARNING)


def _is_console(handler: logging.Handler) -> bool:
    kind = type(handler)
    is_of_ray = isinstance(handler, logging.StreamHandler) and kind.__module__.startswith("ray.")
    return is_of_ray or kind is logging.StreamHandler
