"""Blobs in an S3 bucket, Amazon's or any that speaks its protocol.

`<prefix>/ab/<key>` holds bytes, `<prefix>/notes/<name>/<sha-256>` notes, as in a folder, so the two
can be copied onto each other. An object appears when its upload is complete, and not before: that is
the atomicity that the port asks for, and why no lock is needed.
"""

from __future__ import annotations

import hashlib
import io
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import IO, TYPE_CHECKING, BinaryIO, cast
from urllib.parse import urlsplit

import boto3
from boto3.exceptions import S3UploadFailedError
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
)

from charkha.data.blobs.local import refused
from charkha.errors import BackendError, CharkhaError, NotFound, Unavailable, UserError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer
    from botocore.response import StreamingBody
    from mypy_boto3_s3.client import S3Client

_CHUNK = 1 << 20
_IN_MEMORY = 16 << 20  # bytes of one put that are held before they go to a temporary file
_READERS = 8  # notes fetched at once
_REMEMBERED = 10_000  # notes that were read before
_SMALL = 16 << 10  # bytes of one that is remembered
_CLIENT = Config(
    connect_timeout=3,  # seconds; a host that is not there is told within ten
    read_timeout=60,
    retries={"mode": "standard", "total_max_attempts": 2},
    max_pool_connections=_READERS + 2,
    request_checksum_calculation="when_required",  # other servers than Amazon's know no CRC trailer
    response_checksum_validation="when_required",
)
_TRANSFER = TransferConfig(multipart_threshold=_IN_MEMORY, multipart_chunksize=_IN_MEMORY)
_ABSENT = {"404", "NoSuchKey", "NotFound"}
_REFUSED = {"403", "AccessDenied", "AllAccessDisabled", "AccountProblem"}
_WRONG_KEY = {"401", "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken"}
_LATER = {"SlowDown", "ServiceUnavailable", "InternalError", "RequestTimeout", "Throttling"}
_BROKEN = (ConnectionError, HTTPClientError, IncompleteReadError)


class S3Blobs:
    """A BlobStore under `s3://bucket/prefix`.

    Without keys, boto3's own chain finds them (environment, `~/.aws`, a role). One object may be
    used by many threads: a boto3 client may.
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
        self._bucket_seen = False
        self._known: dict[str, bytes] = {}  # notes by key; it has their digest, so they stay so

    def put(self, content: BinaryIO) -> str:
        digest = hashlib.sha256()
        with tempfile.SpooledTemporaryFile(
            _IN_MEMORY
        ) as spooled:  # the key is known after the last byte
            try:
                while chunk := content.read(_CHUNK):
                    digest.update(chunk)
                    spooled.write(chunk)
            except OSError as e:
                raise refused(e, tempfile.gettempdir()) from e
            key, length = digest.hexdigest(), spooled.tell()
            if self.size(key) != length:
                spooled.seek(0)
                self._upload(self._object(key), cast("IO[bytes]", spooled))
        return key

    def open(self, key: str) -> BinaryIO:
        try:
            answer = self._client.get_object(Bucket=self._bucket, Key=self._object(key))
        except (ClientError, BotoCoreError) as e:
            raise self._translated(e, f"no blob {key[:12]}… under {self._url}") from e
        return io.BufferedReader(_Body(answer["Body"], self._translated), _CHUNK)

    def size(self, key: str) -> int | None:
        try:
            head = self._client.head_object(Bucket=self._bucket, Key=self._object(key))
        except ClientError as e:
            self._explain(e)
            return None
        except BotoCoreError as e:
            raise self._translated(e) from e
        return head["ContentLength"]

    def remove(self, key: str) -> None:
        self._delete(self._object(key))

    def note(self, name: str, record: bytes) -> None:
        try:
            self._client.put_object(Bucket=self._bucket, Key=self._note(name, record), Body=record)
        except (ClientError, BotoCoreError) as e:
            raise self._translated(e) from e

    def notes(self, name: str) -> list[bytes]:
        found: list[tuple[float, str]] = []
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=f"{self._prefix}notes/{name}/"
        )
        try:
            for page in pages:
                found += [
                    (o["LastModified"].timestamp(), o["Key"]) for o in page.get("Contents", [])
                ]
        except (ClientError, BotoCoreError) as e:
            raise self._translated(e) from e
        keys = [key for _, key in sorted(found)]
        seen = self._known  # which another thread may replace, and only adds to
        known = {key: seen[key] for key in keys if key in seen}
        if missing := [key for key in keys if key not in known]:
            with ThreadPoolExecutor(_READERS) as pool:
                read = zip(missing, pool.map(self._record, missing), strict=True)
                known.update((key, record) for key, record in read if record is not None)
            self._remember(known)
        return [known[key] for key in keys if key in known]

    def _remember(self, records: dict[str, bytes]) -> None:
        """Keep small notes: whoever follows a run asks for them again and again."""
        if len(self._known) > _REMEMBERED:
            self._known = {}
        self._known |= {key: r for key, r in records.items() if len(r) <= _SMALL}

    def unnote(self, name: str, record: bytes) -> None:
        self._delete(self._note(name, record))

    @property
    def _client(self) -> S3Client:
        with self._making:  # making one is not thread-safe, using one is
            if self._made is None:
                self._made = self._connect()
            return self._made

    def _connect(self) -> S3Client:
        access, secret = self._keys
        own = self._endpoint_url is not None
        try:
            session = boto3.Session()
            return session.client(
                "s3",
                endpoint_url=self._endpoint_url,
                aws_access_key_id=access,
                aws_secret_access_key=secret,
                # Another server than Amazon's takes any region, and has no name for each bucket.
                region_name=session.region_name or ("us-east-1" if own else None),
                config=_CLIENT.merge(Config(s3={"addressing_style": "path"})) if own else _CLIENT,
            )
        except (BotoCoreError, ValueError) as e:
            raise UserError(
                f"no connection for {self._url} can be made of these settings: {e}",
                fix="correct [blobs] endpoint_url, or the AWS_… environment variables",
            ) from e

    def _object(self, key: str) -> str:
        return f"{self._prefix}{key[:2]}/{key}"

    def _note(self, name: str, record: bytes) -> str:
        return f"{self._prefix}notes/{name}/{hashlib.sha256(record).hexdigest()}"

    def _upload(self, key: str, content: IO[bytes]) -> None:
        try:
            self._client.upload_fileobj(content, self._bucket, key, Config=_TRANSFER)
        except (ClientError, BotoCoreError) as e:
            raise self._translated(e) from e
        except S3UploadFailedError as e:
            raise Unavailable(f"{self._url} did not take an upload: {e}") from e

    def _delete(self, key: str) -> None:
        try:
            self._client.delete_object(Bucket=self._bucket, Key=key)
        except (ClientError, BotoCoreError) as e:
            raise self._translated(e) from e

    def _record(self, key: str) -> bytes | None:
        """Return a note, or None where it was taken out since it was listed."""
        try:
            return self._client.get_object(Bucket=self._bucket, Key=key)["Body"].read()
        except ClientError as e:
            if _code(e) in _ABSENT:
                return None
            raise self._translated(e) from e
        except BotoCoreError as e:
            raise self._translated(e) from e

    def _explain(self, head: ClientError) -> None:
        """Return where a HEAD found the bucket and no object, else raise why it found nothing.

        An answer to HEAD has no body, so 404 is an absent object or an absent bucket, and 403 a
        wrong key or a lacking permission. Listing one object tells which.
        """
        if _code(head) in _ABSENT and self._bucket_seen:
            return
        try:
            self._client.list_objects_v2(Bucket=self._bucket, Prefix=self._prefix, MaxKeys=1)
        except (ClientError, BotoCoreError) as e:
            raise self._translated(e) from e
        self._bucket_seen = True
        if _code(head) not in _ABSENT:
            raise self._translated(head) from head

    def _translated(self, error: Exception, absent: str | None = None) -> CharkhaError:
        """Say what `error` means; `absent` where an unknown object was asked for."""
        where = self._endpoint_url or "Amazon S3"
        code = _code(error) if isinstance(error, ClientError) else None
        if code == "NoSuchBucket" or (code in _ABSENT and absent is None):
            return NotFound(
                f"{where} has no bucket {self._bucket!r}",
                fix=f"create it (aws s3 mb s3://{self._bucket}) or correct [blobs] url",
            )
        if code in _ABSENT:
            return NotFound(absent or "")
        if code in _WRONG_KEY or isinstance(error, NoCredentialsError | PartialCredentialsError):
            return UserError(
                f"{where} does not know the credentials for {self._url}: {_said(error)}",
                fix="set access_key and secret_key under [blobs], or AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY",
            )
        if code in _REFUSED:
            return UserError(
                f"{where} forbids it: {_said(error)} ({self._url})",
                fix="let this user get, put, delete and list objects in the bucket",
            )
        if isinstance(error, ParamValidationError):
            return UserError(f"{self._url}: {error}", fix="correct the bucket in [blobs] url")
        if code in _LATER or isinstance(error, _BROKEN):
            return Unavailable(f"{where} does not answer for {self._url}: {_said(error)}")
        return BackendError(f"{where} refused a request for {self._url}: {_said(error)}")


class _Body(io.RawIOBase):
    """The bytes of an object as they arrive; what breaks on the way is translated as well."""

    def __init__(
        self, body: StreamingBody, translated: Callable[[Exception], CharkhaError]
    ) -> None:
        self._body, self._translated = body, translated

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer)
        try:
            chunk = self._body.read(len(view))
        except BotoCoreError as e:
            raise self._translated(e) from e
        view[: len(chunk)] = chunk
        return len(chunk)

    def close(self) -> None:
        self._body.close()
        super().close()


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _said(error: Exception) -> str:
    return str(error).removeprefix("An error occurred ")


if TYPE_CHECKING:
    from charkha.data.blobs.port import BlobStore

    _: BlobStore = S3Blobs("s3://bucket")
