"""Objects below a prefix of an S3 bucket, on AWS or any server that speaks its protocol."""

import base64
import errno
import hashlib
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from boto3.s3.transfer import TransferConfig
from botocore.exceptions import BotoCoreError, ReadTimeoutError
from urllib3.exceptions import HTTPError

from data_pipeline.platform.errors import JobFailedError, UserError
from data_pipeline.platform.node import scratch_file
from data_pipeline.platform.storage.disk_errors import told_disk_errors
from data_pipeline.platform.storage.interface import StagedFile, StoredObject
from data_pipeline.platform.storage.s3_connection import Connection, sends_checksums
from data_pipeline.platform.storage.s3_errors import UnsupportedError

# A shard of the usual size is one put: it appears at once, under a checksum that S3 verifies.
_MULTIPART_THRESHOLD = 128 << 20
_PART_BYTES = 32 << 20
_BLOCK = 1 << 20
_BROKEN_BODIES = 10  # in a row that bring nothing

_ABANDONED_AFTER = timedelta(days=1)

# Longer than the time from a look to the put after it.
_SETTLING_SECONDS = 3.0

_log = logging.getLogger(__name__)

_T = TypeVar("_T")

_CONNECTION = Connection()


class S3Storage:
    """A prefix of a bucket. Credentials, region and endpoint come from boto3's usual chain."""

    def __init__(self, uri: str, *, answered: bool = False) -> None:
        """Names the prefix; calls no server.

        Args:
            uri: s3://bucket or s3://bucket/prefix.
            answered: See Connection.

        Raises:
            UserError: If the URI names no bucket, or a prefix that not every server and tool takes
                for the same: with "." or ".." between slashes, or control characters.
        """
        bucket, _, prefix = uri.removeprefix("s3://").partition("/")
        if not bucket:
            raise UserError(f"{uri}: names no bucket; pass s3://bucket/prefix")
        if {".", ".."} & set(prefix.split("/")) or not prefix.isprintable():
            raise UserError(
                f"{uri!r}: a part of it is . or .., or a control character; choose another prefix"
            )
        self._bucket = bucket
        self._prefix = prefix.strip("/") and prefix.strip("/") + "/"
        self.uri = f"s3://{bucket}/{self._prefix}".rstrip("/")
        _CONNECTION.answered = _CONNECTION.answered or answered

    def __reduce__(self) -> tuple[Callable[..., "S3Storage"], tuple[()]]:
        # The other process has a client of its own, but knows that this one's was answered.
        return partial(S3Storage, self.uri, answered=_CONNECTION.answered), ()

    def _call(self, request: Callable[[Any], _T], key: str = "") -> _T:
        return _CONNECTION.call(request, f"{self.uri}/{key}".rstrip("/"))

    def _bucket_prefix(self, prefix: str = "") -> dict[str, str]:
        return {"Bucket": self._bucket, "Prefix": self._prefix + prefix}

    def _object(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._prefix + key}

    def list(self, prefix: str = "") -> list[StoredObject]:
        """See Storage."""

        def pages(client: Any) -> list[StoredObject]:
            paginator = client.get_paginator("list_objects_v2")
            return [
                StoredObject(
                    found["Key"].removeprefix(self._prefix),
                    found["Size"],
                    found["LastModified"].timestamp(),
                )
                for page in paginator.paginate(**self._bucket_prefix(prefix))
                for found in page.get("Contents", ())
                if not found["Key"].endswith("/")  # what some tools put for a "folder"
            ]

        return sorted(self._call(pages))

    def size(self, key: str) -> int | None:
        """See Storage."""
        # Not HEAD: its errors have no text, and a missing bucket looks like a missing object.
        found = self._call(
            lambda client: client.list_objects_v2(**self._bucket_prefix(key), MaxKeys=1), key
        )
        first = next(iter(found.get("Contents", ())), None)  # the shortest key of this prefix
        return int(first["Size"]) if first and first["Key"] == self._prefix + key else None

    def read(self, key: str) -> bytes:
        """See Storage."""
        return b"".join(self.stream(key))

    def stream(self, key: str) -> Iterator[bytes]:
        """See Storage. Goes on where a body breaks off."""
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
                # A time-out took long: two of them in a row are enough.
                failures += _BROKEN_BODIES // 2 if isinstance(error, ReadTimeoutError) else 1
                if failures >= _BROKEN_BODIES or position == end:  # at the end: a wrong checksum
                    raise _CONNECTION.explained(error, f"{self.uri}/{key}") from error
                time.sleep(min(0.05 * 2**failures, 5.0))

    def _get(self, key: str, position: int, conditions: dict[str, str]) -> Any:
        span = {"Range": f"bytes={position}-"} if position else {}
        try:
            return self._call(
                lambda client: client.get_object(**self._object(key), **span, **conditions), key
            )
        except FileExistsError as error:  # the condition failed
            raise JobFailedError(f"{self.uri}/{key}: was replaced while it was read") from error

    def write(self, key: str, data: bytes) -> None:
        """See Storage."""
        self._put(key, data)

    def write_new(self, key: str, data: bytes) -> None:
        """See Storage. Servers that know If-None-Match keep writers apart.

        On another one the storage looks before the write, and again some seconds after it. Of
        several writers in these seconds the last one wins, and the others are told. This fails
        only if a writer's put comes later after its look than that.
        """
        if self.size(key) is not None:  # a server may ignore the condition
            raise FileExistsError(errno.EEXIST, "exists already", f"{self.uri}/{key}")
        try:
            self._put(key, data, IfNoneMatch="*")
            # A server that knows the condition must refuse the second put.
            self._put(key, data, IfNoneMatch="*")
            answer = "ignores"
        except FileExistsError:
            # Another writer's, or our own: the first put is sent twice if its answer got lost.
            if self.size(key) != len(data) or self.read(key) != data:
                raise
            return
        except UnsupportedError:
            answer = "does not take"
            self._put(key, data)
        _log.info(
            "%s/%s: the server %s If-None-Match; looks in %.0f s whether another command wrote it",
            self.uri,
            key,
            answer,
            _SETTLING_SECONDS,
        )
        time.sleep(_SETTLING_SECONDS)
        if self.read(key) != data:
            raise FileExistsError(errno.EEXIST, "exists already", f"{self.uri}/{key}")

    def _put(self, key: str, data: bytes, **conditions: str) -> None:
        target = self._object(key) | conditions

        def put(client: Any) -> None:
            if sends_checksums(client):
                digest = {"ChecksumSHA256": _base64(hashlib.sha256(data))}
            else:
                digest = {"ContentMD5": _base64(hashlib.md5(data, usedforsecurity=False))}
            client.put_object(**target, Body=data, **digest)

        self._call(put, key)

    @contextmanager
    def stage(self, key: str) -> Iterator[StagedFile]:
        """See Storage. The local file lies in the node's scratch folder."""
        with scratch_file(Path(key).name) as path:
            staged = StagedFile(path)
            with told_disk_errors(path, "make room, or set SRGAN_CACHE to another disk"):
                yield staged
            if path.stat().st_size < _MULTIPART_THRESHOLD:
                self._put(key, path.read_bytes())
            else:
                config = TransferConfig(
                    multipart_threshold=_MULTIPART_THRESHOLD, multipart_chunksize=_PART_BYTES
                )
                target = self._object(key)
                self._call(
                    lambda client: client.upload_file(str(path), **target, Config=config), key
                )

    def delete(self, key: str) -> None:
        """See Storage."""
        self._call(lambda client: client.delete_object(**self._object(key)), key)

    def delete_folder(self, folder: str) -> None:
        """See Storage. Markers are what other tools put for a folder: empty, with a final "/"."""

        def delete_all(client: Any) -> None:
            paginator = client.get_paginator("list_objects_v2")
            for page in paginator.paginate(**self._bucket_prefix(f"{folder}/")):
                for found in page.get("Contents", ()):
                    client.delete_object(Bucket=self._bucket, Key=found["Key"])

        self._call(delete_all)

    def delete_partial(self) -> None:
        """See Storage. Aborts multipart uploads that are a day old; other writes leave nothing.

        S3 does not tell whether an upload's process still lives.
        """

        def abort(client: Any) -> None:
            paginator = client.get_paginator("list_multipart_uploads")
            for page in paginator.paginate(**self._bucket_prefix()):
                for upload in page.get("Uploads", ()):
                    if datetime.now(timezone.utc) - upload["Initiated"] < _ABANDONED_AFTER:
                        continue
                    client.abort_multipart_upload(
                        Bucket=self._bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                    )

        self._call(abort)


def _base64(digest: Any) -> str:
    return base64.b64encode(digest.digest()).decode()
