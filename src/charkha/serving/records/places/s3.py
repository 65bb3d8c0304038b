"""Sealed files in an S3 bucket, Amazon's or any that speaks its protocol."""

from __future__ import annotations

import io
import os
import threading
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import urlsplit

import boto3
from botocore.config import Config

from charkha.data.sources.s3 import translated
from charkha.errors import UserError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer
    from mypy_boto3_s3.client import S3Client

_WHOLE = 4 << 20  # bytes of a file that is fetched with one request; a larger one by columns
_AHEAD = 1 << 20  # bytes that are fetched of that at least
_CLIENT = Config(
    connect_timeout=3,  # seconds; a host that is not there is told within ten
    read_timeout=60,
    retries={"mode": "standard", "total_max_attempts": 2},
    max_pool_connections=16,
    request_checksum_calculation="when_required",  # other servers than Amazon's know no CRC trailer
    response_checksum_validation="when_required",
)


class S3Place:
    """A Place under `s3://bucket/prefix`.

    Without keys, boto3's own chain finds them (environment, `~/.aws`, a role).
    """

    def __init__(
        self,
        url: str,
        *,
        endpoint_url: str | None = None,
        access_key: str | None = None,
        secret_key: str | None = None,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme != "s3" or not parts.netloc:
            raise UserError(f"{url!r} is no place in S3", fix="write it as s3://bucket/prefix")
        self._bucket, self._url = parts.netloc, url
        self._prefix = f"{parts.path.strip('/')}/".lstrip("/")
        self._endpoint_url, self._keys = endpoint_url, (access_key, secret_key)
        self._made: S3Client | None = None
        self._making = threading.Lock()

    def put(self, name: str, content: bytes) -> None:
        with translated(self._url):
            self._client.put_object(Bucket=self._bucket, Key=self._prefix + name, Body=content)

    def open(self, name: str) -> BinaryIO:
        key = self._prefix + name
        with translated(f"s3://{self._bucket}/{key}"):
            answer = self._client.get_object(
                Bucket=self._bucket, Key=key, Range=f"bytes=0-{_WHOLE - 1}"
            )
            size = int(answer["ContentRange"].rpartition("/")[2])
            if size <= _WHOLE:
                return io.BytesIO(answer["Body"].read())
            answer["Body"].close()
        return io.BufferedReader(_Object(self._client, self._bucket, key, size), _AHEAD)

    def names(self, folder: str) -> list[str]:
        return self._listed(folder)[0]

    def folders(self, folder: str) -> list[str]:
        return self._listed(folder)[1]

    def _listed(self, folder: str) -> tuple[list[str], list[str]]:
        names: list[str] = []
        folders: list[str] = []
        above = len(self._prefix)
        with translated(self._url):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._prefix + folder, Delimiter="/"
            )
            for page in pages:
                names += [item["Key"][above:] for item in page.get("Contents", [])]
                folders += [item["Prefix"][above:] for item in page.get("CommonPrefixes", [])]
        return sorted(names), sorted(folders)

    @property
    def _client(self) -> S3Client:
        with self._making:  # making one is not thread-safe, using one is
            if self._made is None:
                self._made = self._connect()
            return self._made

    def _connect(self) -> S3Client:
        access, secret = self._keys
        own = self._endpoint_url is not None
        session = boto3.Session()
        try:
            with translated(self._url):
                return session.client(
                    "s3",
                    endpoint_url=self._endpoint_url,
                    aws_access_key_id=access,
                    aws_secret_access_key=secret,
                    # Another server than Amazon's takes any region, and has no name for a bucket.
                    region_name=session.region_name or ("us-east-1" if own else None),
                    config=_CLIENT.merge(Config(s3={"addressing_style": "path"}))
                    if own
                    else _CLIENT,
                )
        except ValueError as e:
            raise UserError(
                f"no connection for {self._url} can be made: {e}",
                fix="correct [records] endpoint_url",
            ) from e


class _Object(io.RawIOBase):
    """An object that is read piece by piece, as ranges."""

    def __init__(self, client: S3Client, bucket: str, key: str, size: int) -> None:
        self._client, self._bucket, self._key, self._size = client, bucket, key, size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer)
        end = min(self._at + len(view), self._size)
        if end <= self._at:
            return 0
        with translated(f"s3://{self._bucket}/{self._key}"):
            answer = self._client.get_object(
                Bucket=self._bucket, Key=self._key, Range=f"bytes={self._at}-{end - 1}"
            )
            piece = answer["Body"].read()
        view[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)


if TYPE_CHECKING:
    from charkha.serving.records.places.port import Place

    _: Place = S3Place("s3://bucket")
