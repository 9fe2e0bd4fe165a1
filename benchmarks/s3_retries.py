"""Seconds of boto3's two retry modes at a server that spoils every third call, and their ratio.

python -m benchmarks.s3_retries [--objects 60]    needs the dev extra: moto serves S3 here
"""

import argparse
import os
import time

import boto3
from botocore.config import Config

from benchmarks.common import print_result
from tests.s3_servers import Fault, faulty, moto_server

_BODY = b"x" * 2000


def main() -> None:
    """Puts objects in both modes, with the usual faults and with 503 SlowDown alone."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.s3_retries")
    parser.add_argument("--objects", type=int, default=60)
    objects = parser.parse_args().objects
    result: dict[str, float] = {}
    with moto_server() as server:
        os.environ.update(server.environment())
        boto3.client("s3").create_bucket(Bucket="bucket")
        for faults, sequence in (("mixed", tuple(Fault)[:3]), ("slow_down", (Fault.SLOW_DOWN,))):
            for mode in ("standard", "adaptive"):
                with faulty(server, sequence=sequence) as proxy:
                    seconds = _seconds(proxy.server.endpoint, mode, objects)
                    result[f"{faults}_{mode}_seconds"] = seconds
            ratio = result[f"{faults}_adaptive_seconds"] / result[f"{faults}_standard_seconds"]
            result[f"{faults}_adaptive_over_standard"] = ratio
    print_result({"objects": objects, "every": 3, **result})


def _seconds(endpoint: str, mode: str, objects: int) -> float:
    config = Config(retries={"mode": mode, "total_max_attempts": 10})
    client = boto3.session.Session().client("s3", endpoint_url=endpoint, config=config)
    start = time.monotonic()
    for number in range(objects):
        client.put_object(Bucket="bucket", Key=f"{mode}/{number}", Body=_BODY)
    return time.monotonic() - start


if __name__ == "__main__":
    main()
