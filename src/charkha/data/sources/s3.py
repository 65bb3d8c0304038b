"""An object, or all below a prefix, in S3 or a store that speaks its protocol."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import boto3
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    NoCredentialsError,
    PartialCredentialsError,
)
from botocore.exceptions import (
    ConnectionError as BotoConnectionError,
)

from charkha.data.refusals import refused
from charkha.data.sources.port import Progress
from charkha.errors import BackendError, CharkhaError, NotFound, Unavailable, UserError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_ABSENT = {"NoSuchKey", "NoSuchBucket", "NotFound", "404"}
_FORBIDDEN = {"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "Forbidden", "403"}
_SIGN_IN = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or `aws configure`"


class S3Source:
    """A DataSource of `s3://bucket/key`, or of a folder: `s3://bucket/prefix/`."""

    def __init__(self, address: str, *, endpoint_url: str | None = None) -> None:
        """Take the address.

        Raises:
            UserError: it names no object and no folder.
        """
        parts = urlsplit(address)
        self._bucket, self._key = parts.netloc, parts.path.removeprefix("/")
        self._endpoint_url = endpoint_url
        self.origin = address
        self.file_name = self._key.rstrip("/").rpartition("/")[2]
        if not (self._bucket and self.file_name):
            raise UserError(f"{address} names nothing in a bucket", fix="write s3://bucket/key")

    def fetch(self, into: Path, progress: Progress) -> Path:
        target = into / self.file_name
        with translated(self.origin):
            client: S3Client = boto3.client("s3", endpoint_url=self._endpoint_url)
            objects = self._objects(client)
            count = _Count(sum(objects.values()), progress)
            for key in objects:
                path = _inside(target, key.removeprefix(self._key)) if self._is_folder else target
                path.parent.mkdir(parents=True, exist_ok=True)
                client.download_file(self._bucket, key, str(path), Callback=count)
        return target

    @property
    def _is_folder(self) -> bool:
        return self._key.endswith("/")

    def _objects(self, client: S3Client) -> dict[str, int]:
        """Return the keys to fetch with their sizes in bytes."""
        if not self._is_folder:
            head = client.head_object(Bucket=self._bucket, Key=self._key)
            return {self._key: head["ContentLength"]}
        pages = client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=self._key
        )
        found = {
            item["Key"]: item["Size"]
            for page in pages
            for item in page.get("Contents", [])
            if not item["Key"].endswith("/")  # a console's marker of a folder
        }
        if not found:
            raise NotFound(f"there is nothing below {self.origin}", fix="correct the address")
        return found


class _Count:
    """Adds up what boto3 says has come, from the several threads in which it comes."""

    def __init__(self, total: int, progress: Progress) -> None:
        self._done, self._total, self._progress = 0, total, progress
        self._lock = threading.Lock()

    def __call__(self, more: int) -> None:
        with self._lock:
            self._done += more
            self._progress(self._done, self._total)


def _inside(folder: Path, name: str) -> Path:
    if ".." in name.split("/") or name.startswith("/"):
        raise BackendError(f"an object's key would lead out of the folder: {name!r}")
    return folder / name


@contextmanager
def translated(address: str) -> Iterator[None]:
    """Turn what boto raises about `address` into our errors."""
    try:
        yield
    except (NoCredentialsError, PartialCredentialsError) as e:
        raise UserError(f"{address}: {e}", fix=_SIGN_IN) from e
    except ClientError as e:
        raise _refusal(e, address) from e
    except (BotoConnectionError, HTTPClientError) as e:
        raise Unavailable(f"{address} did not answer: {e}", fix="check the endpoint") from e
    except BotoCoreError as e:
        raise BackendError(f"{address}: {e}") from e
    except OSError as e:
        raise refused(e, address) from e


def _refusal(error: ClientError, address: str) -> CharkhaError:
    code = error.response.get("Error", {}).get("Code", "")
    if code in _ABSENT:
        return NotFound(
            f"{address} does not exist ({code})",
            fix="correct the address; a folder ends in /",
        )
    if code in _FORBIDDEN:
        return BackendError(f"{address} refused the credentials ({code})", fix=_SIGN_IN)
    return BackendError(f"{address}: {error}")


if TYPE_CHECKING:
    from charkha.data.sources.port import DataSource

    _: DataSource = S3Source("")
