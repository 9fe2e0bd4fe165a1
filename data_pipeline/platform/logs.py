"""The log of a job, in its driver and in its workers."""

import logging


def configure_logging() -> None:
    """Logs plain lines with the time; libraries log warnings and errors only."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    for library in ("boto3", "botocore", "s3transfer", "urllib3"):
        logging.getLogger(library).setLevel(logging.WARNING)
