"""What the log of a job shows, in its driver and in its workers."""

import logging


def configure_logging() -> None:
    """Plain lines with the time; libraries are heard when something is wrong."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    for library in ("boto3", "botocore", "s3transfer", "urllib3"):
        logging.getLogger(library).setLevel(logging.WARNING)
