"""Tells Ray that EC2 is about to take this spot node away, so that a training saves in time.

    python spot_notice.py

It asks the instance's metadata service every five seconds. EC2 gives two minutes' notice. Then this
calls `ray drain-node` until Ray accepts, and ends. On an instance that is not spot it ends at once.
It needs Python's standard library alone, and `ray` on the PATH. AWS_EC2_METADATA_SERVICE_ENDPOINT
names another service, as it does for AWS's own tools.
"""

import json
import os
import subprocess
import sys
import time
from datetime import datetime, timezone
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit

_SECONDS_BETWEEN_LOOKS = 5.0
_SECONDS_TO_ANSWER = 2.0
_NOTICE_SECONDS = 120
_FOUND, _NOT_FOUND = 200, 404


def main() -> None:
    """Waits for the notice, passes it on, ends."""
    if _ask("instance-life-cycle") != "spot":
        print("no spot instance: nothing to wait for", flush=True)
        return
    while (notice := _ask("spot/instance-action")) is None:
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    print(f"EC2's notice: {notice}", flush=True)
    # Without this Ray would start a cluster of its own where it finds none.
    os.environ["RAY_ADDRESS"] = "auto"
    while subprocess.run(drain_command(notice, _now()), check=False).returncode:  # noqa: S603
        print("Ray does not accept it: trying again", file=sys.stderr, flush=True)
        time.sleep(_SECONDS_BETWEEN_LOOKS)


def drain_command(notice: str, now: datetime) -> list[str]:
    """The command that tells Ray: the node is this one.

    Args:
        notice: EC2's, as {"action": "terminate", "time": "2026-01-02T03:04:05Z"}. Of one that does
            not say when, the end is in two minutes.
        now: The time, with its zone.
    """
    try:
        end = datetime.fromisoformat(json.loads(notice)["time"].replace("Z", "+00:00"))
        seconds = max(0, int((end - now).total_seconds()))
    except (ValueError, KeyError, TypeError, AttributeError):
        seconds = _NOTICE_SECONDS
    return [
        "ray",
        "drain-node",
        "--reason=DRAIN_NODE_REASON_PREEMPTION",
        f"--reason-message=EC2 will take this spot instance away: {notice}",
        f"--deadline-remaining-seconds={seconds}",
    ]


def _ask(path: str) -> str | None:
    """The instance's metadata; None where there is none. Asks until the service answers."""
    service = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://169.254.169.254")
    problem = ""
    while True:
        try:
            lifetime = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
            status, token = _request(service, "PUT", "/latest/api/token", lifetime)
            if status == _FOUND:
                header = {"X-aws-ec2-metadata-token": token}
                status, text = _request(service, "GET", f"/latest/meta-data/{path}", header)
                if status in (_FOUND, _NOT_FOUND):
                    return text if status == _FOUND else None
            found = f"HTTP status {status}"
        except (OSError, HTTPException) as error:
            found = f"{type(error).__name__}: {error}"
        if found != problem:
            problem = found
            print(f"{service}: {problem}; asking again", file=sys.stderr, flush=True)
        time.sleep(_SECONDS_BETWEEN_LOOKS)


def _request(service: str, method: str, path: str, headers: dict[str, str]) -> tuple[int, str]:
    connection = HTTPConnection(urlsplit(service).netloc, timeout=_SECONDS_TO_ANSWER)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def _now() -> datetime:
    return datetime.now(timezone.utc)


if __name__ == "__main__":
    main()
