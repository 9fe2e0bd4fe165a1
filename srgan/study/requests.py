"""What the server accepts: JSON of known form and size, from its own page. Pure but for reading."""

import json
from typing import Any, NamedTuple

from starlette.requests import ClientDisconnect, Request

LARGEST_BODY = 4096

_MOST_DIGITS = 6

_DISPLAY = {
    "screen": {"phone", "tablet", "laptop", "monitor", "large"},
    "light": {"dark", "dim", "bright", "sun"},
    "steps": {"all", "dark", "light", "both"},
}


class RefusedError(Exception):
    """A request that is not answered. The text is for the person who looks into it."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Answer(NamedTuple):
    """An answer as the page sends it."""

    trial: int
    answer: int
    milliseconds: int


def check_origin(request: Request) -> None:
    """Refuses what another site's page makes a browser send.

    A browser tells the origin with every POST, and `Sec-Fetch-Site` with every request.
    """
    site = request.headers.get("sec-fetch-site", "same-origin")
    if site not in ("same-origin", "none"):
        raise RefusedError(403, "from another site")
    if request.method == "GET":
        return
    scheme, _, host = request.headers.get("origin", "").partition("://")
    if scheme not in ("http", "https") or host != request.headers.get("host"):
        raise RefusedError(403, "from another origin")


async def read_json(request: Request) -> dict[str, Any]:
    """The JSON object that a request holds."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise RefusedError(415, "not application/json")
    body = b""
    try:
        async for part in request.stream():
            body += part
            if len(body) > LARGEST_BODY:
                raise RefusedError(413, f"more than {LARGEST_BODY} bytes")
        found = json.loads(body)
    except ClientDisconnect as error:
        raise RefusedError(400, "cut off") from error
    except (ValueError, RecursionError) as error:
        raise RefusedError(400, "no JSON") from error
    if not isinstance(found, dict):
        raise RefusedError(400, "no JSON object")
    return found


def parse_number(text: str) -> int:
    """A number of a path: at most six digits, without a sign."""
    if not (text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS):
        raise RefusedError(404, "no such picture")
    return int(text)


def parse_answer(body: dict[str, Any]) -> Answer:
    """An answer; whether the plan has such a trial is for the caller to see."""
    if body.keys() != set(Answer._fields) or any(type(one) is not int for one in body.values()):
        raise RefusedError(400, f"expected whole numbers {', '.join(Answer._fields)}")
    return Answer(**body)


def parse_display(body: dict[str, Any]) -> dict[str, Any]:
    """What a rater tells of screen and room."""
    sizes = ("ratio", "width", "height")
    if body.keys() != {*_DISPLAY, *sizes}:
        raise RefusedError(400, f"expected {', '.join([*_DISPLAY, *sizes])}")
    for name, known in _DISPLAY.items():
        if not isinstance(body[name], str) or body[name] not in known:
            raise RefusedError(400, f"{name}: expected one of {', '.join(sorted(known))}")
    for name in sizes:
        if type(body[name]) not in (int, float) or not 0 < body[name] < 100_000:
            raise RefusedError(400, f"{name}: expected a number above 0")
    return body
