"""Tells Ray that EC2 is about to take this spot node away, so that a training saves in time.

    python spot_notice.py

It asks the instance's metadata service every five seconds. EC2 gives two minutes' notice. When the
notice is there, it calls `ray drain-node` until Ray accepts, and ends. On an instance that is no spot
instance it ends at once. It needs Python's standard library alone, and `ray` on the PATH.
AWS_EC2_METADATA_SERVICE_ENDPOINT names another service, as it does for AWS's own tools.
"""

import json
import os
import subprocess
import sys
import time
from datetime import datetime, timezone
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

SECONDS_BETWEEN_LOOKS = 5.0
_SECONDS_TO_ANSWER = 2.0
_NOT_FOUND = 404


def main() -> None:
    """Waits for the notice, passes it on, ends."""
    if _ask("instance-life-cycle") != "spot":
        print("no spot instance: nothing to wait for", flush=True)
        return
    while (notice := _ask("spot/instance-action")) is None:
        time.sleep(SECONDS_BETWEEN_LOOKS)
    print(f"EC2's notice: {notice}", flush=True)
    while subprocess.run(drain_command(json.loads(notice), _now()), check=False).returncode:
        print("Ray does not accept it: trying again", file=sys.stderr, flush=True)
        time.sleep(SECONDS_BETWEEN_LOOKS)


def drain_command(notice: dict[str, Any], now: datetime) -> list[str]:
    """The command that tells Ray.

    Args:
        notice: EC2's, as {"action": "terminate", "time": "2026-01-02T03:04:05Z"}.
        now: The time, with its zone.
    """
    end = datetime.strptime(notice["time"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
    seconds = max(0, int((end - now).total_seconds()))
    return [
        "ray",
        "drain-node",
        "--reason=DRAIN_NODE_REASON_PREEMPTION",
        f"--reason-message=EC2 will {notice['action']} this spot instance at {notice['time']}",
        f"--deadline-remaining-seconds={seconds}",
    ]


def _ask(path: str) -> str | None:
    """The instance's metadata; None where there is none. Asks until the service answers."""
    service = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://169.254.169.254")
    lifetime = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
    problem = ""
    while True:
        try:
            token = _get(Request(f"{service}/latest/api/token", headers=lifetime, method="PUT"))
            header = {"X-aws-ec2-metadata-token": token}
            return _get(Request(f"{service}/latest/meta-data/{path}", headers=header))
        except OSError as error:
            if isinstance(error, HTTPError) and error.code == _NOT_FOUND:
                return None
            if str(error) != problem:
                problem = str(error)
                print(f"{service}: {problem}; asking again", file=sys.stderr, flush=True)
            time.sleep(SECONDS_BETWEEN_LOOKS)


def _get(request: Request) -> str:
    with urlopen(request, timeout=_SECONDS_TO_ANSWER) as answer:
        body: str = answer.read().decode()
        return body


def _now() -> datetime:
    return datetime.now(timezone.utc)


if __name__ == "__main__":
    main()
