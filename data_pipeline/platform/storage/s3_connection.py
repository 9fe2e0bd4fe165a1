"""One S3 client for all storages of a process, with patience and errors that people understand."""

import logging
import time
from collections.abc import Callable
from functools import cached_property
from typing import Any, TypeVar

import boto3
from boto3.exceptions import S3UploadFailedError
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
from urllib3.exceptions import HTTPError

from data_pipeline.platform.errors import JobFailedError
from data_pipeline.platform.storage.s3_errors import explain

# boto3 alone would keep a wrong address for a minute before it says so.
_ATTEMPTS = 2
# Seconds before further rounds of attempts, while the server keeps failing.
_PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0)
_CONNECTIONS = 32

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

    @cached_property
    def _client(self) -> Any:
        config = Config(
            # "adaptive" slows all threads of a client to a few calls a second once the server asks
            # for patience, which would starve training; see benchmarks/s3_retries.py.
            retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
            max_pool_connections=_CONNECTIONS,
            connect_timeout=10,
            read_timeout=60,
        )
        session = boto3.session.Session()
        client = session.client("s3", config=config)
        self._endpoint = client.meta.endpoint_url
        if session.get_credentials() is None:
            raise NoCredentialsError  # the client is not kept: a node's role may take a moment
        return client

    def call(self, request: Callable[[Any], _T], uri: str) -> _T:
        """Sends a request; sends it again after longer pauses while the server keeps failing.

        Args:
            request: Calls the boto3 client that it is given.
            uri: What the request is about.

        Raises:
            Exception: As `explain` says.
        """
        for pause in _PAUSES:
            try:
                return self._call_once(request, uri)
            except JobFailedError as error:
                _log.warning("%s; goes on in %.0f s", error, pause)
                time.sleep(pause)
        return self._call_once(request, uri)

    def _call_once(self, request: Callable[[Any], _T], uri: str) -> _T:
        try:
            client = self._client
        except (BotoCoreError, ValueError) as error:  # ValueError: of the endpoint's URL
            raise self.explained(error, uri) from error
        try:
            result = request(client)
        except (BotoCoreError, ClientError, HTTPError, S3UploadFailedError) as error:
            cause = error.__context__ if isinstance(error, S3UploadFailedError) else None
            raise self.explained(cause or error, uri) from error
        self.answered = True
        return result

    def explained(self, error: BaseException, uri: str) -> Exception:
        """The exception to raise instead of boto3's; see `explain`."""
        self.answered = self.answered or isinstance(error, ClientError)
        return explain(error, uri, self._endpoint, reached=self.answered)
