"""An error of boto3 -> one line that a person understands. It never quotes a credential."""

import errno
import re

from botocore import exceptions as boto
from botocore.exceptions import ClientError

from data_pipeline.platform.errors import JobFailedError, UserError

_MISSING = {"404", "NoSuchKey"}
_EXISTS = {"412", "PreconditionFailed", "409", "ConditionalRequestConflict"}

_RIGHTS = (
    "s3:ListBucket, GetObject, PutObject, DeleteObject, AbortMultipartUpload and "
    "ListBucketMultipartUploads"
)
_DENIED = "{server} denies {operation}; grant these credentials " + _RIGHTS
_REFUSED = "{server} refuses the AWS credentials ({code}); renew them"
_FULL = "{server} has no room for {operation} ({code}); free some or raise the limit"
_ELSEWHERE = "{server} says that the bucket's region is {region}; set AWS_DEFAULT_REGION to it"

_ANSWERS = {
    "NoSuchBucket": "no such bucket at {server}; create it or correct the URI",
    "InvalidBucketName": "is no valid bucket name; correct the URI",
    "403": _DENIED,
    "AccessDenied": _DENIED,
    "AllAccessDisabled": _DENIED,
    "ExpiredToken": _REFUSED,
    "ExpiredTokenException": _REFUSED,  # of the server that lends roles
    "InvalidAccessKeyId": _REFUSED,
    "InvalidClientTokenId": _REFUSED,  # of the same
    "InvalidToken": _REFUSED,
    "SignatureDoesNotMatch": _REFUSED,
    "301": _ELSEWHERE,
    "AuthorizationHeaderMalformed": _ELSEWHERE,
    "IllegalLocationConstraintException": _ELSEWHERE,
    "PermanentRedirect": _ELSEWHERE,
    "RequestTimeTooSkewed": "{server} says that this machine's clock is wrong; set it",
    "QuotaExceeded": _FULL,
    "XMinioStorageFull": _FULL,
    "NotImplemented": "{server} has no {operation}, or none with If-None-Match; use another server",
}

_NO_CREDENTIALS = (
    "no usable AWS credentials for {server} ({kind}); set AWS_ACCESS_KEY_ID and "
    "AWS_SECRET_ACCESS_KEY, set AWS_PROFILE, or give the node a role"
)
_UNREACHABLE = (
    "{server} cannot be reached ({kind}); check AWS_ENDPOINT_URL, AWS_DEFAULT_REGION and the "
    "network"
)
_NO_REGION = "no valid region; set AWS_DEFAULT_REGION"

_KINDS: tuple[tuple[type[Exception], str], ...] = (
    (boto.NoCredentialsError, _NO_CREDENTIALS),
    (boto.PartialCredentialsError, _NO_CREDENTIALS),
    (boto.CredentialRetrievalError, _NO_CREDENTIALS),
    (boto.ProfileNotFound, _NO_CREDENTIALS),
    (boto.SSOError, _NO_CREDENTIALS),
    (boto.TokenRetrievalError, _NO_CREDENTIALS),
    (boto.EndpointConnectionError, _UNREACHABLE),
    (boto.ConnectTimeoutError, _UNREACHABLE),
    (boto.ReadTimeoutError, _UNREACHABLE),
    (boto.ProxyConnectionError, _UNREACHABLE),
    (boto.SSLError, _UNREACHABLE),
    (boto.NoRegionError, _NO_REGION),
    (boto.InvalidRegionError, _NO_REGION),
    (boto.ParamValidationError, "is no valid bucket and key; correct the URI"),
    (ValueError, "{reason}; correct AWS_ENDPOINT_URL, or endpoint_url in ~/.aws/config"),
)


def explain(
    error: BaseException, uri: str, endpoint: str | None, *, reached: bool = False
) -> Exception:
    """The exception to raise instead of boto3's.

    Args:
        error: What boto3 or a connection raised.
        uri: What it was about.
        endpoint: The server's URL, or None if it is not known yet.
        reached: Whether the server has answered before: it may come back.

    Returns:
        FileNotFoundError where there is no such object, FileExistsError where a condition of a
        put failed, UserError for what the user can fix, else JobFailedError.
    """
    # Without the user and password that may stand before a host.
    reason = re.sub(r"//\S*@", "//", " ".join(str(error).split()))[:300] or type(error).__name__
    facts = {"server": _server(endpoint), "kind": type(error).__name__, "reason": reason}
    if isinstance(error, ClientError):
        details = error.response.get("Error", {})
        code = str(details.get("Code", "unknown"))
        if code in _MISSING:
            return FileNotFoundError(errno.ENOENT, "no such object", uri)
        if code in _EXISTS:
            return FileExistsError(errno.EEXIST, "exists already", uri)
        headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        region = headers.get("x-amz-bucket-region") or details.get("Region", "another")
        facts |= {"code": code, "operation": error.operation_name, "region": region}
        facts["reason"] = f"{error.operation_name} gives {code}"  # its words may hold the key
        message = _ANSWERS.get(code)
    else:
        message = next((text for kind, text in _KINDS if isinstance(error, kind)), None)
    if message and not (reached and message in (_UNREACHABLE, _NO_CREDENTIALS)):
        return UserError(f"{uri}: {message.format(**facts)}")
    return JobFailedError(f"{uri}: {facts['server']} keeps failing: {facts['reason']}")


def _server(endpoint: str | None) -> str:
    if not endpoint:
        return "the S3 server"
    host = re.sub(r"(.*@)?([^/?#]*).*", r"\2", endpoint.rpartition("//")[2], flags=re.DOTALL)
    if re.fullmatch(r"s3[\w.-]*\.amazonaws\.com(\.cn)?", host):
        return "AWS S3"
    return f"{endpoint.partition('//')[0]}//{host}"
