"""A file of known size and sha256 -> a verified file in the node's folder.

`<target>` appears when it is whole and verified; `<target>.sha256` then records its checksum.
Until then `<target>.partial` grows, over as many connections, calls and processes as it takes.
"""

import errno
import logging
import os
import shutil
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import NamedTuple

import urllib3
from urllib3 import exceptions

from data_pipeline.platform.errors import JobFailedError, UserError
from data_pipeline.platform.hashing import file_sha256
from data_pipeline.platform.http_client import connections_to
from data_pipeline.platform.node import node_lock
from data_pipeline.platform.progress import BYTES, Progress, data_size

_OVERLOADED = (408, 429, *range(500, 600))
_RETRIES = urllib3.Retry(7, status_forcelist=_OVERLOADED, backoff_factor=1, backoff_max=30)
_REDIRECTS = urllib3.Retry(total=None, connect=0, read=0, status=0, other=0, redirect=5)
_LONGEST_RETRY_AFTER = 120  # seconds
_STALL_SECONDS = 30.0
_BLOCK = 1 << 18
_ANOTHER_MIRROR = "pass another --mirror"

_log = logging.getLogger(__name__)


class Content(NamedTuple):
    """What a file must hold: its bytes, and their sha256 in hexadecimal."""

    bytes: int
    sha256: str


class NotThereError(UserError):
    """The server has no such file."""


def download(url: str, target: Path, content: Content) -> None:
    """Downloads a file, as `obtain`; goes on where an earlier call was cut off or killed.

    Raises:
        NotThereError: If the server answers 404.
        UserError: If the address is wrong or the server refuses it.
        JobFailedError: If the server keeps failing. What has come is kept.
    """
    obtain(target, url, partial(_fetch, url, content.bytes), content)


def obtain(target: Path, origin: str, fetch: Callable[[Path], None], content: Content) -> None:
    """Copies a file once and verifies it; of several processes that want it, one works.

    Args:
        target: Where it goes, in a folder. A file that a person put there is verified, once.
        origin: Where it comes from, for messages.
        fetch: Completes the file at the path that it is given.
        content: What it must hold.

    Raises:
        UserError: If it holds something else, or the target cannot be written.
        JobFailedError: If the disk is full. What has come is kept.
    """
    part, record = (target.with_name(target.name + end) for end in (".partial", ".sha256"))
    line = f"{content.sha256}  {target.name}\n"
    try:
        with node_lock(target.name, f"{target}: waits for another process that makes it"):
            if _size(target) == content.bytes and record.exists() and record.read_text() == line:
                return
            if target.exists():  # a person put it there, or its process was killed before the end
                require(target, str(target), content, "delete it and run the same command again")
            else:
                _complete(part, origin, fetch, content)
                part.replace(target)
            record.write_text(line)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(f"{target}: {error.strerror}; choose another place") from error
        needed, free = content.bytes - _size(part), shutil.disk_usage(target.parent).free
        raise JobFailedError(
            f"{part}: the disk is full: {data_size(needed)} more are needed, {data_size(free)} "
            "are free; make room, the same command goes on"
        ) from error


def require(path: Path, origin: str, content: Content, fix: str) -> None:
    """Raises UserError, with the file's origin and the fix, unless a file has this content."""
    if (size := _size(path)) != content.bytes:
        raise UserError(f"{origin}: expected {content.bytes} bytes, found {size}; {fix}")
    if (sha256 := file_sha256(path)) != content.sha256:
        raise UserError(f"{origin}: expected sha256 {content.sha256}, found {sha256}; {fix}")


def _complete(part: Path, origin: str, fetch: Callable[[Path], None], content: Content) -> None:
    if shutil.disk_usage(part.parent).free < content.bytes - _size(part):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    fetch(part)
    with part.open("rb") as file:
        os.fsync(file.fileno())
    try:
        require(part, origin, content, f"run the same command again or {_ANOTHER_MIRROR}")
    except UserError:
        part.unlink()  # nothing can be appended to wrong bytes
        raise


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _fetch(url: str, size: int, part: Path) -> None:
    """Sends requests until the partial file has `size` bytes."""
    retries, most = _RETRIES, _size(part)
    while _size(part) < size:
        wait = 0.0
        try:
            with closing(_request(url, _size(part))) as response:
                wait = _RETRIES.get_retry_after(response) or 0.0
                _receive(url, response, part, size)
        except exceptions.HTTPError as error:
            reason, kept = _reason(url, error), _size(part)
            if kept > most:  # the same bytes again are no progress
                retries, most = _RETRIES, kept
            elif retries.total:
                retries = retries.increment("GET", url, error=error)
            else:
                raise JobFailedError(
                    f"{url}: {reason}; {1 + len(retries.history)} attempts brought nothing new; "
                    f"{data_size(kept)} are kept, the same command goes on"
                ) from error
            wait = max(1.0, min(wait, _LONGEST_RETRY_AFTER), retries.get_backoff_time())
            _log.warning("%s: %s; goes on in %.0f s", part.stem, reason, wait)
            time.sleep(wait)


def _request(url: str, start: int) -> urllib3.BaseHTTPResponse:
    """Asks for a file from byte `start` on."""
    parts = urllib3.util.parse_url(url)
    if parts.auth:
        address = f"{parts.scheme}://{parts.host}"
        raise UserError(f"{address}: takes no user and password; {_ANOTHER_MIRROR}")
    return connections_to(url).request(
        "GET",
        url,
        headers={"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {}),
        timeout=_STALL_SECONDS,
        retries=_REDIRECTS,
        preload_content=False,
        decode_content=False,
    )


def _receive(url: str, response: urllib3.BaseHTTPResponse, part: Path, size: int) -> None:
    """Judges an answer and appends its body to the partial file."""
    status, length = response.status, response.length_remaining
    answer = f"the server answers {status} {response.reason or ''}".rstrip()
    if _RETRIES.is_retry("GET", status):
        raise exceptions.HTTPError(answer)
    if status not in (200, 206, 416):
        refusal = NotThereError if status == 404 else UserError
        raise refusal(f"{url}: {answer}; {_ANOTHER_MIRROR}")
    if status == 200 and length not in (None, size):
        raise UserError(f"{url}: expected {size} bytes, found {length}; {_ANOTHER_MIRROR}")
    done = 0 if status == 200 else _size(part)  # 200: the server sends all of it
    if status != 200 and f"bytes {done}-" not in response.headers.get("Content-Range", ""):
        part.unlink(missing_ok=True)
        raise exceptions.HTTPError(f"{answer} for the rest; starts from zero")
    with (
        part.open("ab" if done else "wb") as file,
        Progress(part.stem, size, BYTES, done) as progress,
    ):
        # What has come is written at once: a cut loses nothing. More than `size` is refused later.
        while done <= size and (block := response.read1(_BLOCK)):
            file.write(block)
            done += len(block)
            progress.advance(len(block))
    if done < size:
        raise exceptions.HTTPError("the server stopped early")


def _reason(url: str, error: exceptions.HTTPError) -> str:
    """Says what failed. Raises UserError where another attempt is in vain."""
    cause = (isinstance(error, exceptions.MaxRetryError) and error.reason) or error
    text = str(cause.args[0]) if cause.args else type(cause).__name__
    if isinstance(cause, exceptions.ResponseError | exceptions.LocationValueError):  # a redirect
        raise UserError(f"{url}: {text}; {_ANOTHER_MIRROR}") from error
    if "CERTIFICATE_VERIFY_FAILED" in text:
        raise UserError(f"{url}: {text}; set SSL_CERT_FILE to its authority's file") from error
    return text
