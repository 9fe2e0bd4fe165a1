"""An error of boto3 -> one line that a person understands. It never quotes a credential."""

import errno
import re
from collections.abc import Iterable

from botocore import exceptions as boto
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from data_pipeline.platform.errors import JobFailedError
from data_pipeline.platform.storage.interface import UnusableStorageError
from data_pipeline.platform.storage.redaction import redacted


class UnsupportedError(UnusableStorageError):
    """The server refuses a request for good, by an S3 code that has no line of its own here."""


class UnknownHeaderError(UnsupportedError):
    """The same, by a code that servers give to headers which they do not know."""


class WrongBodyError(JobFailedError):
    """The body was spoiled on the way, or the server does not know the checksum after it."""


_EXISTS = {"412", "PreconditionFailed", "409", "ConditionalRequestConflict"}

_RIGHTS = (
    "s3:ListBucket, GetObject, PutObject, DeleteObject, AbortMultipartUpload and "
    "ListBucketMultipartUploads"
)
_DENIED = "{server} denies {operation}; grant these credentials " + _RIGHTS + "{words}"
_REFUSED = "{server} refuses the AWS credentials ({code}); renew them"
_FULL = "{server} has no room for {operation} ({code}); free some or raise the limit"
_ELSEWHERE = "{server} says that the bucket's region is {region}; set AWS_DEFAULT_REGION to it"
_NO_ROLE = "no leave to assume the role ({code}{words}); correct role_arn or the role's trust"
_UNSUPPORTED = (
    "{server} refuses {operation} ({code}{words}); correct the URI and the AWS settings, or use "
    "another server"
)
_NO_S3 = (
    "{server} answers {status} without an S3 error, as a proxy or another web server does; check "
    "AWS_ENDPOINT_URL, HTTP_PROXY, HTTPS_PROXY and NO_PROXY"
)

_ANSWERS = {
    "NoSuchBucket": "no such bucket at {server}; create it or correct the URI",
    "InvalidBucketName": "is no valid bucket name; correct the URI",
    "AccessDenied": _DENIED,
    "AllAccessDisabled": _DENIED,
    "ExpiredToken": _REFUSED,
    "ExpiredTokenException": _REFUSED,  # of the server that lends roles
    "InvalidAccessKeyId": _REFUSED,
    "InvalidClientTokenId": _REFUSED,  # of the same
    "InvalidToken": _REFUSED,
    "SignatureDoesNotMatch": _REFUSED,
    "TokenRefreshRequired": _REFUSED,
    "AuthorizationHeaderMalformed": _ELSEWHERE,
    "IllegalLocationConstraintException": _ELSEWHERE,
    "PermanentRedirect": _ELSEWHERE,
    "RequestTimeTooSkewed": "{server} says that this machine's clock is wrong; set it",
}
_FULL_CODES = re.compile("Quota|StorageFull|InsufficientStorage")
_HEADER_CODES = {"InvalidArgument", "InvalidRequest", "MissingContentLength", "NotImplemented"}
_WRONG_BODY = "XAmzContentSHA256Mismatch"

# The same request may succeed later. Every other 4xx is an answer for good.
_TEMPORARY_CODES = {
    "BadDigest",  # spoiled on the way
    "BandwidthLimitExceeded",
    "BucketNotReady",
    "IncompleteBody",
    "InternalError",
    "NoSuchUpload",  # a completed upload whose answer got lost
    "OperationAborted",
    "RequestLimitExceeded",
    "RequestThrottled",
    "RequestThrottledException",
    "RequestTimeout",
    "SlowDown",
    "TemporaryRedirect",  # of a bucket that was just made
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
    _WRONG_BODY,
}
_TEMPORARY_STATUSES = {408, 425, 429, 503}  # with a code of a quota: of requests, not of bytes
_PERMANENT_SERVER_STATUSES = {501, 505, 507}

_NO_CREDENTIALS = (
    "no usable AWS credentials for {server} ({kind}); set AWS_ACCESS_KEY_ID and "
    "AWS_SECRET_ACCESS_KEY, set AWS_PROFILE, or give the node a role"
)
_UNREACHABLE = (
    "{server} cannot be reached ({kind}); check AWS_ENDPOINT_URL, AWS_DEFAULT_REGION and the "
    "network"
)
_SILENT = (
    "{server} takes the connection and does not answer ({kind}); check AWS_ENDPOINT_URL and the "
    "network, or use another server"
)
_PROXY = "the proxy {server} refuses ({kind}{why}); check HTTP_PROXY, HTTPS_PROXY and NO_PROXY"
_CERTIFICATE = (
    "{server} cannot be trusted ({why}); set AWS_CA_BUNDLE to the file with your CA's certificate"
)
_NO_REGION = "no valid region; set AWS_DEFAULT_REGION"
_SETTINGS = "{reason}; correct the AWS settings in the environment and in ~/.aws"

_KINDS: tuple[tuple[type[Exception], str], ...] = (
    (boto.NoCredentialsError, _NO_CREDENTIALS),
    (boto.PartialCredentialsError, _NO_CREDENTIALS),
    (boto.CredentialRetrievalError, _NO_CREDENTIALS),
    (boto.ProfileNotFound, _NO_CREDENTIALS),
    (boto.SSOError, _NO_CREDENTIALS),
    (boto.TokenRetrievalError, _NO_CREDENTIALS),
    (boto.EndpointConnectionError, _UNREACHABLE),
    (boto.ConnectTimeoutError, _UNREACHABLE),
    (boto.ReadTimeoutError, _SILENT),
    (boto.ProxyConnectionError, _PROXY),
    (boto.SSLError, _UNREACHABLE),
    (boto.NoRegionError, _NO_REGION),
    (boto.InvalidRegionError, _NO_REGION),
    (boto.ParamValidationError, "is no valid bucket and key; correct the URI"),
    (ResponseParserError, _NO_S3),
    (ValueError, "{reason}; correct AWS_ENDPOINT_URL, or endpoint_url in ~/.aws/config"),
)
# Once the server was reached, these pass: it restarts, or the node's role takes a moment.
_MAY_PASS = (_UNREACHABLE, _SILENT, _NO_CREDENTIALS, _PROXY, _NO_S3)
_TEMPORARY_KINDS = (
    boto.HTTPClientError,
    boto.ConnectionError,
    boto.IncompleteReadError,
    boto.ChecksumError,
    boto.FlexibleChecksumError,
    boto.MetadataRetrievalError,
)


def is_answer(error: BaseException) -> bool:
    """Whether an error is an answer of an S3 server, and not the page of a proxy."""
    if not isinstance(error, ClientError):
        return False
    code = str(error.response.get("Error", {}).get("Code", ""))
    return bool(code) and not code.isdigit()  # botocore puts the status where it finds no code


def explain(
    error: BaseException,
    uri: str,
    endpoint: str | None,
    *,
    reached: bool = False,
    secrets: Iterable[str] = (),
) -> Exception:
    """The exception to raise instead of boto3's.

    Args:
        error: What boto3 or a connection raised.
        uri: What it was about.
        endpoint: The server's URL, or None if it is not known yet.
        reached: Whether the server has answered before: it may come back.
        secrets: The credentials. Servers quote them in what they say.

    Returns:
        FileNotFoundError where there is no such object, FileExistsError where a condition of a
        put failed, UnusableStorageError for what the user can fix (UnsupportedError for a request
        that the server refuses for a reason not known here), JobFailedError for what may pass.
    """
    if isinstance(error, ClientError):
        return _explain_answer(error, uri, _server(endpoint), secrets, reached=reached)
    details = getattr(error, "kwargs", {})  # of boto3's errors
    where = str(details.get("proxy_url") or details.get("endpoint_url") or "")
    server = _server(endpoint)
    if where and not _same_server(where, endpoint):
        server = _server(where)  # the proxy, or the server that lends roles
    facts = {
        "server": server,
        "kind": type(error).__name__,
        "reason": redacted(str(error), secrets) or type(error).__name__,
        "why": redacted(str(details.get("error") or error), secrets),
        "status": "something",
    }
    message = _message(error, facts["why"], reached=reached)
    if message == _PROXY:
        facts["why"] = f": {facts['why']}"
    if message:
        return UnusableStorageError(f"{uri}: {message.format(**facts)}")
    return JobFailedError(f"{uri}: {server} keeps failing: {facts['reason']}")


def _message(error: BaseException, why: str, *, reached: bool) -> str | None:
    """What to say of an error that is no answer; None if it may pass."""
    if isinstance(error, boto.SSLError) and re.search("(?i)certificate|no such file|denied", why):
        return _CERTIFICATE
    message = next((text for kind, text in _KINDS if isinstance(error, kind)), None)
    if message is None and isinstance(error, BotoCoreError):
        return None if isinstance(error, _TEMPORARY_KINDS) else _SETTINGS
    is_lasting = isinstance(error, boto.SSOError | boto.TokenRetrievalError | boto.ProfileNotFound)
    is_lasting = is_lasting or "Tunnel connection failed: 4" in why
    return None if reached and message in _MAY_PASS and not is_lasting else message


def _explain_answer(
    error: ClientError, uri: str, server: str, secrets: Iterable[str], *, reached: bool
) -> Exception:
    details = error.response.get("Error", {})
    metadata = error.response.get("ResponseMetadata", {})
    headers = metadata.get("HTTPHeaders", {})
    code, status = str(details.get("Code", "")), int(metadata.get("HTTPStatusCode", 500))
    if code == "NoSuchKey":
        return FileNotFoundError(errno.ENOENT, "no such object", uri)
    if code in _EXISTS:
        return FileExistsError(errno.EEXIST, "exists already", uri)
    region = headers.get("x-amz-bucket-region") or details.get("Region")
    words = redacted(f"{details.get('Message') or ''} {details.get('Header') or ''}", secrets)
    facts = {
        "server": server,
        "code": code,
        "status": status,
        "operation": error.operation_name,
        "region": region or "another",
        "words": f": {words}" if words else "",
    }
    message = _ANSWERS.get(code)
    may_pass = status in _TEMPORARY_STATUSES or code in _TEMPORARY_CODES
    if message == _DENIED and error.operation_name.startswith("AssumeRole"):
        message = _NO_ROLE
    elif not may_pass and (status == 507 or _FULL_CODES.search(code)):
        message = _FULL
    elif status == 301 and region:
        message = _ELSEWHERE
    if message:
        return UnusableStorageError(f"{uri}: {message.format(**facts)}")
    if may_pass or (status >= 500 and status not in _PERMANENT_SERVER_STATUSES):
        kind = WrongBodyError if code == _WRONG_BODY else JobFailedError
        given = code or status
        return kind(f"{uri}: {server} keeps failing: {error.operation_name} gives {given}")
    if not is_answer(error):
        text = f"{uri}: {_NO_S3.format(**facts)}"
        # Between answers of the server, a page is an outage of the proxy.
        return JobFailedError(text) if reached else UnusableStorageError(text)
    refusal = UnknownHeaderError if code in _HEADER_CODES else UnsupportedError
    return refusal(f"{uri}: {_UNSUPPORTED.format(**facts)}")


def _host(url: str) -> str:
    return re.sub(r"(.*@)?([^/?#]*).*", r"\2", url.rpartition("//")[2], flags=re.DOTALL)


def _same_server(url: str, endpoint: str | None) -> bool:
    """Whether a URL is of this endpoint; a bucket's name may stand before the host."""
    return f".{_host(url)}".endswith(f".{_host(endpoint or '')}")


def _server(endpoint: str | None) -> str:
    if not endpoint:
        return "the S3 server"
    host = _host(endpoint)
    if re.fullmatch(r"s3[\w.-]*\.amazonaws\.com(\.cn)?", host):
        return "AWS S3"
    return f"{endpoint.partition('//')[0]}//{host}"
