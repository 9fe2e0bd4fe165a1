"""Objects below a prefix of an S3 bucket, on AWS or any server that speaks its protocol."""

import base64
import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any, TypeVar

import boto3
from boto3.exceptions import S3UploadFailedError
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
from urllib3.exceptions import HTTPError

from data_pipeline.platform.errors import JobFailedError, UserError
from data_pipeline.platform.node import scratch_file
from data_pipeline.platform.storage.interface import StoredObject
from data_pipeline.platform.storage.s3_errors import explain

# A shard of the usual size is one put: it appears at once, under a checksum that S3 verifies.
_MULTIPART_THRESHOLD = 128 << 20
_PART_BYTES = 32 << 20
_BLOCK = 1 << 20
_ATTEMPTS = 10
_FEW_ATTEMPTS = 2

# Seconds before further rounds of attempts: boto3 gives up within a second when many threads
# share its quota of retries.
_PAUSES = (1.0, 3.0, 10.0)
_CONNECTIONS = 32

_ABANDONED_AFTER = timedelta(days=1)

_log = logging.getLogger(__name__)

_T = TypeVar("_T")

_Environment = tuple[tuple[str, str], ...]


@lru_cache
def _shared_client(attempts: int, environment: _Environment) -> Any:
    """One client for all storages of a process; `environment` is what determines it."""
    config = Config(
        # "adaptive" slows all threads of a client to a few calls a second once the server asks
        # for patience, which would starve training; see benchmarks/s3_retries.py.
        retries={"mode": "standard", "total_max_attempts": attempts},
        max_pool_connections=_CONNECTIONS,
        connect_timeout=10,
        read_timeout=60,
    )
    session = boto3.session.Session()
    if session.get_credentials() is None:
        raise NoCredentialsError  # which is not cached: a node's role may take a moment
    return session.client("s3", config=config)


@lru_cache
def _look_into(bucket: str, prefix: str, environment: _Environment) -> None:
    client = _shared_client(_FEW_ATTEMPTS, environment)
    client.list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=1)


class S3Storage:
    """A prefix of a bucket. Credentials, region and endpoint come from boto3's usual chain."""

    def __init__(self, uri: str, *, reached: bool = False) -> None:
        """Names the prefix; calls no server.

        Args:
            uri: s3://bucket or s3://bucket/prefix.
            reached: Whether the server has answered before, maybe to another process: if it does
                not now, that is no mistake of the user's, and it may come back.

        Raises:
            UserError: If the URI names no bucket.
        """
        bucket, _, prefix = uri.removeprefix("s3://").partition("/")
        if not bucket:
            raise UserError(f"{uri}: names no bucket; pass s3://bucket/prefix")
        self._bucket = bucket
        self._prefix = prefix.strip("/") and prefix.strip("/") + "/"
        self.uri = f"s3://{bucket}/{self._prefix}".rstrip("/")
        self._reached = reached

    def __reduce__(self) -> tuple[Callable[..., "S3Storage"], tuple[()]]:
        # The client stays behind: it has sockets and locks.
        return partial(S3Storage, self.uri, reached=self._has_reached()), ()

    def _has_reached(self) -> bool:
        return self._reached or "_client" in self.__dict__

    @cached_property
    def _client(self) -> Any:
        """The client, after a first call that says soon what is wrong with the bucket."""
        environment = tuple(
            sorted(item for item in os.environ.items() if item[0].startswith("AWS_"))
        )
        try:
            # Once: the call that needs the client is patient itself.
            self._call_once(lambda: _look_into(self._bucket, self._prefix, environment))
        except ValueError as error:  # of the endpoint's URL
            raise self._explained(error, "") from error
        return _shared_client(_ATTEMPTS, environment)

    def _call(self, request: Callable[[], _T], key: str = "") -> _T:
        """Sends a request, again after longer pauses than boto3's if the server keeps failing."""
        for pause in _PAUSES:
            try:
                return self._call_once(request, key)
            except JobFailedError as error:
                _log.warning("%s; goes on in %.0f s", error, pause)
                time.sleep(pause)
        return self._call_once(request, key)

    def _call_once(self, request: Callable[[], _T], key: str = "") -> _T:
        try:
            return request()
        except S3UploadFailedError as error:
            raise self._explained(error.__context__ or error, key) from error
        except (BotoCoreError, ClientError, HTTPError) as error:
            raise self._explained(error, key) from error

    def _explained(self, error: BaseException, key: str) -> Exception:
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        uri = f"{self.uri}/{key}".rstrip("/")
        return explain(error, uri, endpoint, reached=self._has_reached())

    def _bucket_prefix(self, prefix: str = "") -> dict[str, str]:
        return {"Bucket": self._bucket, "Prefix": self._prefix + prefix}

    def _object(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._prefix + key}

    def list(self, prefix: str = "") -> list[StoredObject]:
        """See Storage."""

        def pages() -> list[StoredObject]:
            paginator = self._client.get_paginator("list_objects_v2")
            return [
                StoredObject(found["Key"].removeprefix(self._prefix), found["Size"])
                for page in paginator.paginate(**self._bucket_prefix(prefix))
                for found in page.get("Contents", ())
                if not found["Key"].endswith("/")  # what some tools put for a "folder"
            ]

        return sorted(self._call(pages))

    def size(self, key: str) -> int | None:
        """See Storage."""
        try:
            head = self._call(lambda: self._client.head_object(**self._object(key)), key)
        except FileNotFoundError:
            return None
        return int(head["ContentLength"])

    def read(self, key: str) -> bytes:
        """See Storage."""
        return b"".join(self.stream(key))

    def stream(self, key: str) -> Iterator[bytes]:
        """See Storage. A body that breaks off is taken up where it did."""
        position, failures = 0, 0
        same: dict[str, str] = {}
        while True:
            response = self._get(key, position, same)
            same = {"IfMatch": response["ETag"]}
            end = position + response["ContentLength"]
            try:
                while block := response["Body"].read(_BLOCK):
                    position += len(block)
                    failures = 0
                    yield block
                if position == end:
                    return
                raise OSError(f"{end - position} bytes are missing")
            except (BotoCoreError, HTTPError, OSError) as error:
                response["Body"].close()
                failures += 1
                if failures == _ATTEMPTS or position == end:  # at the end: a wrong checksum
                    raise self._explained(error, key) from error
                time.sleep(min(0.05 * 2**failures, 5.0))

    def _get(self, key: str, position: int, conditions: dict[str, str]) -> Any:
        span = {"Range": f"bytes={position}-"} if position else {}
        try:
            return self._call(
                lambda: self._client.get_object(**self._object(key), **span, **conditions), key
            )
        except FileExistsError as error:  # the condition failed
            raise JobFailedError(f"{self.uri}/{key}: was replaced while it was read") from error

    def write(self, key: str, data: bytes) -> None:
        """See Storage."""
        self._call(lambda: self._put(key, data), key)

    def write_new(self, key: str, data: bytes) -> None:
        """See Storage."""
        try:
            self._call(lambda: self._put(key, data, IfNoneMatch="*"), key)
        except FileExistsError:
            # A put that was repeated because its answer got lost meets itself.
            if self.size(key) != len(data) or self.read(key) != data:
                raise

    def _put(self, key: str, data: bytes, **conditions: str) -> None:
        checksum = base64.b64encode(hashlib.sha256(data).digest()).decode()
        self._client.put_object(
            **self._object(key), Body=data, ChecksumSHA256=checksum, **conditions
        )

    @contextmanager
    def stage(self, key: str) -> Iterator[Path]:
        """See Storage. The local file lies in the node's scratch folder."""
        with scratch_file(Path(key).name) as path:
            yield path
            if path.stat().st_size < _MULTIPART_THRESHOLD:
                self.write(key, path.read_bytes())
            else:
                config = TransferConfig(
                    multipart_threshold=_MULTIPART_THRESHOLD, multipart_chunksize=_PART_BYTES
                )
                target = self._object(key)
                self._call(
                    lambda: self._client.upload_file(str(path), **target, Config=config), key
                )

    def delete(self, key: str) -> None:
        """See Storage."""
        self._call(lambda: self._client.delete_object(**self._object(key)), key)

    def delete_folder(self, folder: str) -> None:
        """See Storage. Markers are what other tools put for a folder: empty, with a final "/"."""

        def delete_all() -> None:
            paginator = self._client.get_paginator("list_objects_v2")
            for page in paginator.paginate(**self._bucket_prefix(f"{folder}/")):
                for found in page.get("Contents", ()):
                    self._client.delete_object(Bucket=self._bucket, Key=found["Key"])

        self._call(delete_all)

    def delete_partial(self) -> None:
        """See Storage. Aborts multipart uploads of a day ago; other writes leave nothing.

        S3 does not tell whether an upload's process still lives.
        """

        def abort() -> None:
            paginator = self._client.get_paginator("list_multipart_uploads")
            for page in paginator.paginate(**self._bucket_prefix()):
                for upload in page.get("Uploads", ()):
                    if datetime.now(timezone.utc) - upload["Initiated"] < _ABANDONED_AFTER:
                        continue
                    self._client.abort_multipart_upload(
                        Bucket=self._bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                    )

        self._call(abort)
