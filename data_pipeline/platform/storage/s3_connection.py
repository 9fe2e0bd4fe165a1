"""One S3 client for all storages of a process, with patience and errors that people understand."""

import logging
import os
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import boto3
import botocore.session
from boto3.exceptions import S3UploadFailedError
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
)
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError

from data_pipeline.platform.errors import JobFailedError
from data_pipeline.platform.storage.s3_errors import (
    UnknownHeaderError,
    UnsupportedError,
    WrongBodyError,
    explain,
    is_answer,
)

# boto3 alone would keep a wrong address for a minute before it says so.
_ATTEMPTS = 2
_SECONDS_TO_CONNECT = 10
# Without a byte. Two attempts, and a body that stops before them, end within two minutes.
_SECONDS_TO_ANSWER = 35
# Seconds before further rounds of attempts, while the server keeps failing.
_PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0)
# No further round begins so many seconds after the first.
_PATIENCE_SECONDS = 60.0
_CONNECTIONS = 32

# Files that boto3 reads. A training worker has another working directory than the driver.
_PATH_VARIABLES = (
    "AWS_CA_BUNDLE",
    "AWS_CONFIG_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
)

_WITHOUT_CHECKSUMS = {
    "request_checksum_calculation": "when_required",
    "response_checksum_validation": "when_required",
}

_log = logging.getLogger(__name__)

_T = TypeVar("_T")


class Connection:
    """The client for the server, region and credentials that boto3's usual chain finds.

    The client is kept: boto3 renews the credentials of a role by itself.

    Attributes:
        answered: Whether the server has answered before, maybe to another process. If it does not
            now, the address is right and it may come back.
    """

    def __init__(self) -> None:
        self.answered = False
        self._endpoint: str | None = None
        self._credentials: Any = None  # boto3's; may change in place

    @cached_property
    def _session(self) -> Any:
        for name in _PATH_VARIABLES:
            if path := os.environ.get(name):  # for the processes that this one starts, too
                os.environ[name] = str(Path(path).expanduser().absolute())
        session = botocore.session.Session()
        session.set_default_client_config(  # also of the client that asks for a role
            Config(
                # "adaptive" slows all threads of a client to a few calls a second once the server
                # asks for patience, which would starve training; see benchmarks/s3_retries.py.
                retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
                max_pool_connections=_CONNECTIONS,
                connect_timeout=_SECONDS_TO_CONNECT,
                read_timeout=_SECONDS_TO_ANSWER,
            )
        )
        return boto3.session.Session(botocore_session=session)

    @cached_property
    def _client(self) -> Any:
        return self._new_client()

    def _new_client(self, **settings: str) -> Any:
        client = self._session.client("s3", config=Config(**settings))
        self._endpoint = client.meta.endpoint_url
        self._credentials = self._session.get_credentials()
        if self._credentials is None:
            self.__dict__.pop("_session", None)  # not kept: a node's role may take a moment
            raise NoCredentialsError
        return client

    def call(self, request: Callable[[Any], _T], uri: str) -> _T:
        """Sends a request; sends it again after longer pauses while the server keeps failing.

        A server that refuses a header or the form of the body may know no checksums: it gets the
        request once more without, and all further ones if that helps.

        Args:
            request: Calls the boto3 client that it is given.
            uri: What the request is about.

        Raises:
            Exception: As `explain` says.
        """
        try:
            return self._call_patiently(request, uri)
        except (UnknownHeaderError, WrongBodyError) as refusal:
            if not sends_checksums(self._client):
                raise
            plain = self._new_client(**_WITHOUT_CHECKSUMS)
            try:
                result = self._call_patiently(request, uri, plain)
            except (UnsupportedError, WrongBodyError):
                raise refusal from refusal.__cause__
            _log.info("%s: its server takes no x-amz-checksum headers; goes on without", uri)
            self._client = plain
            return result

    def _call_patiently(self, request: Callable[[Any], _T], uri: str, client: Any = None) -> _T:
        began = time.monotonic()
        for pause in _PAUSES:
            try:
                return self._call_once(request, uri, client)
            except JobFailedError as error:
                if time.monotonic() - began > _PATIENCE_SECONDS:
                    raise
                _log.warning("%s; goes on in %.0f s", error, pause)
                time.sleep(pause)
        return self._call_once(request, uri, client)

    def _call_once(self, request: Callable[[Any], _T], uri: str, client: Any) -> _T:
        try:
            client = client or self._client
        except (BotoCoreError, ValueError) as error:  # ValueError: of the endpoint's URL
            raise self.explained(error, uri) from error
        try:
            result = request(client)
        except (
            BotoCoreError,
            ClientError,
            HTTPError,
            ResponseParserError,
            S3UploadFailedError,
        ) as error:
            cause = error.__context__ if isinstance(error, S3UploadFailedError) else None
            raise self.explained(cause or error, uri) from error
        self.answered = True
        return result

    def explained(self, error: BaseException, uri: str) -> Exception:
        """The exception to raise instead of boto3's; see `explain`."""
        self.answered = self.answered or is_answer(error)
        # A look at the fields: their properties may ask a server for new credentials.
        known = vars(self._credentials) if self._credentials else {}
        secrets = [
            str(value)
            for name, value in known.items()
            if value and name.lstrip("_") in ("access_key", "secret_key", "token")
        ]
        return explain(error, uri, self._endpoint, reached=self.answered, secrets=secrets)


def sends_checksums(client: Any) -> bool:
    """Whether a client puts x-amz-checksum headers into requests, as boto3's settings say."""
    config = client.meta.config
    return "when_supported" in (
        config.request_checksum_calculation,
        config.response_checksum_validation,
    )
