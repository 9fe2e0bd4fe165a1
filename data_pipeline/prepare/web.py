"""One GET request for a file or its rest, and whether another one is worth a try."""

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple
from urllib.parse import unquote
from urllib.request import getproxies, proxy_bypass

import urllib3
from pydantic import BaseModel
from urllib3 import exceptions

from data_pipeline.platform.errors import UserError

ANOTHER_MIRROR = "pass another --mirror"

_STALL_SECONDS = 30.0
_LONGEST_RETRY_AFTER_SECONDS = 120.0
_REDIRECTS = urllib3.Retry(total=None, connect=0, read=0, status=0, other=0, redirect=5)
_BLOCK = 1 << 18


class RemoteFile(BaseModel):
    """A file of a web server.

    Attributes:
        url: Its address.
        bytes: Its size.
        validator: Its strong ETag, else its Last-Modified, else empty: changes with its content.
    """

    url: str
    bytes: int
    validator: str


class Body(NamedTuple):
    """An answer: the file, where in it the first byte that comes belongs, and what comes."""

    remote: RemoteFile
    start: int
    blocks: Iterator[bytes]


class NotThereError(UserError):
    """The server has no such file."""


class TryAgainError(Exception):
    """The connection failed, or the server is at a loss; after `wait` seconds it may not be."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


class RemoteChangedError(TryAgainError):
    """The rest that was asked for is no rest of the known file."""


def require_address(url: str) -> None:
    """Raises UserError unless it is an http or https address."""
    with suppress(exceptions.LocationParseError):
        parts = urllib3.util.parse_url(url)
        if parts.auth:
            raise UserError(
                f"{parts.scheme}://{parts.host}: takes no user and password; {ANOTHER_MIRROR}"
            )
        if parts.scheme in ("http", "https") and parts.host:
            return
    raise UserError(f"{url}: is no http or https address; {ANOTHER_MIRROR}")


@contextmanager
def get(url: str, known: RemoteFile | None, start: int, size: int | None) -> Iterator[Body]:
    """Asks for a file, or for its bytes from `start` on if it is still the known one.

    Follows a few redirects, verifies certificates, uses the proxy that the environment names.

    Args:
        url: An http or https address.
        known: What an earlier answer told of it.
        start: How many bytes of the known file are there already.
        size: The file's bytes if known; only for servers that do not tell.

    Yields:
        The body. Its start is 0 where the server sends the whole file all the same.

    Raises:
        TryAgainError: If the connection fails, also in the block, or the server is overloaded.
        RemoteChangedError: If only a request for the whole file can help.
        UserError: If another request is in vain.
    """
    headers = {"Accept-Encoding": "identity"}
    if known and known.validator and start:
        headers |= {"Range": f"bytes={start}-", "If-Range": known.validator}
    try:
        response = _connections(url).request(
            "GET",
            url,
            headers=headers,
            timeout=_STALL_SECONDS,
            retries=_REDIRECTS,
            preload_content=False,
            decode_content=False,
        )
        try:
            yield _body(response, url, known if "Range" in headers else None, start, size)
        finally:
            response.close()
    except exceptions.HTTPError as error:
        raise TryAgainError(_reason(url, error)) from error


def _connections(url: str) -> urllib3.PoolManager:
    parts = urllib3.util.parse_url(url)
    proxy = getproxies().get(parts.scheme or "")
    if proxy and not proxy_bypass(parts.host or ""):
        auth = urllib3.util.parse_url(proxy).auth
        headers = urllib3.make_headers(proxy_basic_auth=unquote(auth)) if auth else None
        return urllib3.ProxyManager(proxy, proxy_headers=headers)
    return urllib3.PoolManager()


def _reason(url: str, error: exceptions.HTTPError) -> str:
    cause = (isinstance(error, exceptions.MaxRetryError) and error.reason) or error
    text = str(cause.args[0]) if cause.args else type(cause).__name__
    if isinstance(
        cause, exceptions.ResponseError | exceptions.LocationValueError
    ):  # redirects: too many, astray
        raise UserError(f"{url}: {text}; {ANOTHER_MIRROR}") from error
    if "CERTIFICATE_VERIFY_FAILED" in text:
        raise UserError(f"{url}: {text}; set SSL_CERT_FILE to its authority's file") from error
    return text


def _body(
    response: urllib3.BaseHTTPResponse,
    url: str,
    known: RemoteFile | None,
    start: int,
    size: int | None,
) -> Body:
    """Judges an answer. `known` is None where the whole file was asked for."""
    answer = f"the server answers {response.status} {response.reason or ''}".rstrip()
    if response.status in (408, 429) or response.status >= 500:
        raise TryAgainError(answer, _retry_after(response))
    if known and response.status in (206, 416):
        content_range = response.headers.get("Content-Range", "")
        validator = _validator(response) or known.validator  # need not be repeated in a 206
        rest = re.fullmatch(rf"bytes {start}-\d+/{known.bytes}", content_range)  # none in a 416
        if not rest or validator != known.validator:
            raise RemoteChangedError(f"{answer} for the rest; the file may have changed")
        return Body(known, start, _blocks(response))
    if response.status != 200:
        refusal = NotThereError if response.status == 404 else UserError
        raise refusal(f"{url}: {answer}; {ANOTHER_MIRROR}")
    total = size if response.length_remaining is None else response.length_remaining
    if total is None:
        raise UserError(f"{url}: the server does not tell the file's size; {ANOTHER_MIRROR}")
    remote = RemoteFile(url=url, bytes=total, validator=_validator(response))
    return Body(remote, 0, _blocks(response))


def _retry_after(response: urllib3.BaseHTTPResponse) -> float:
    try:
        return min(urllib3.Retry().get_retry_after(response) or 0.0, _LONGEST_RETRY_AFTER_SECONDS)
    except exceptions.InvalidHeader:
        return 0.0


def _validator(response: urllib3.BaseHTTPResponse) -> str:
    etag = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else response.headers.get("Last-Modified", "")


def _blocks(response: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    while block := response.read1(_BLOCK):  # what has come: a cut loses nothing
        yield block
