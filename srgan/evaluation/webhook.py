"""Posts JSON to a webhook, for example of a chat.

A webhook's URL is a secret: who has it can post. So no message has more of it than scheme and host.
urllib3 itself logs whole URLs: in its retries, so the attempts are made here instead, and where an
answer's headers are malformed, so its loggers are silent.
"""

import json
import logging
import time
from base64 import b64encode
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote_to_bytes

import urllib3
from urllib3 import exceptions
from urllib3.util import parse_url

from data_pipeline.platform.http_client import connections_to

_TIMEOUT = 10.0  # seconds for an attempt to connect and to be answered
_WAITS = (0.0, 1.0, 4.0)  # seconds before each attempt
_OVERLOADED = (429, 500, 502, 503, 504)

_log = logging.getLogger(__name__)
for _name in ("urllib3.connection", "urllib3.connectionpool"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)


def check_webhook(url: str) -> str:
    """Returns the URL. Raises ValueError, which does not quote it, if it is no web address."""
    try:
        parts = parse_url(url)
    except exceptions.LocationParseError:
        parts = None
    if not (parts and parts.scheme in ("http", "https") and parts.host):
        raise ValueError("expected the URL of a webhook: https://HOST/PATH or http://HOST/PATH")
    return url


def post_json(url: str, content: Mapping[str, Any]) -> bool:
    """Posts an object; says in one line of the log why if it cannot.

    It takes about half a minute at most, and no fault of the server or the network is raised.
    Redirects are not followed: secret and content stay with the host that the user named.

    Args:
        url: What `check_webhook` accepts. A user and a password in it are sent as HTTP's basic
            authentication, in the URL's bytes.
        content: What JSON can hold.

    Returns:
        Whether the server accepted it. A server that accepts it and then fails gets it again.
    """
    parts = parse_url(url)
    reason = ""
    for wait in _WAITS:
        time.sleep(wait)
        reason, is_final = _attempt(url, json.dumps(content, allow_nan=False).encode())
        if is_final:
            break
    if reason:
        _log.warning("the alert is not posted to %s://%s: %s", parts.scheme, parts.host, reason)
    return not reason


def _attempt(url: str, body: bytes) -> tuple[str, bool]:
    """Posts once. Returns why it failed, or "", and whether another attempt is in vain."""
    headers = {"Content-Type": "application/json"}
    if auth := parse_url(url).auth:
        headers["Authorization"] = f"Basic {b64encode(unquote_to_bytes(auth)).decode()}"
    try:
        response = connections_to(url).request(
            "POST",
            url,
            body=body,
            headers=headers,
            timeout=urllib3.Timeout(total=_TIMEOUT),
            retries=False,
            preload_content=False,  # nobody needs the answer's body, which may be endless
        )
    except (exceptions.HTTPError, OSError, ValueError) as error:
        return _reason(error), False
    response.close()
    status = response.status
    if 200 <= status < 300:
        return "", True
    phrase = HTTPStatus(status).phrase if status in set(HTTPStatus) else ""
    moved = "; it has moved: pass its new URL" if 300 <= status < 400 else ""
    return f"the server answers {status} {phrase}".rstrip() + moved, status not in _OVERLOADED


def _reason(error: Exception) -> str:
    """What failed, without the text of urllib3, which may quote the path."""
    causes = (error, error.__cause__, error.args[0] if error.args else None)
    for cause in causes:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
    if isinstance(error, UnicodeError):
        return "the proxy's password is not Latin-1"
    if isinstance(error, exceptions.TimeoutError):
        return f"it does not answer within {_TIMEOUT:g} s"
    return type(error).__name__
