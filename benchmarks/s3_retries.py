"""boto3's two retry modes against a server that spoils every third call; seconds and ratio.

python -m benchmarks.s3_retries        needs the dev extra: moto serves S3 on this machine
"""

import json
import os
import time

import boto3
from botocore.config import Config

from tests.s3_servers import Fault, faulty, moto_server

_OBJECTS = 60
_BODY = b"x" * 2000


def main() -> None:
    """Puts objects in both modes, with the usual faults and with 503 SlowDown alone."""
    result: dict[str, float] = {}
    with moto_server() as server:
        os.environ.update(server.environment())
        boto3.client("s3").create_bucket(Bucket="bucket")
        for faults, sequence in (("mixed", tuple(Fault)[:3]), ("slow_down", (Fault.SLOW_DOWN,))):
            for mode in ("standard", "adaptive"):
                with faulty(server, sequence=sequence) as proxy:
                    result[f"{faults}_{mode}_seconds"] = _seconds(proxy.server.endpoint, mode)
            ratio = result[f"{faults}_adaptive_seconds"] / result[f"{faults}_standard_seconds"]
            result[f"{faults}_adaptive_over_standard"] = round(ratio, 2)
    print(json.dumps({"objects": _OBJECTS, "every": 3, **result}))


def _seconds(endpoint: str, mode: str) -> float:
    config = Config(retries={"mode": mode, "total_max_attempts": 10})
    client = boto3.session.Session().client("s3", endpoint_url=endpoint, config=config)
    start = time.monotonic()
    for number in range(_OBJECTS):
        client.put_object(Bucket="bucket", Key=f"{mode}/{number}", Body=_BODY)
    return round(time.monotonic() - start, 1)


if __name__ == "__main__":
    main()
