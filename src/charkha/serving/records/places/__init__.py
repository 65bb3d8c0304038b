"""Where sealed files lie: the port, its adapters, and how the one of an address is opened."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from charkha.data.late import late
from charkha.errors import UserError
from charkha.project import resolve_secret
from charkha.serving.records.places.local import LocalPlace

if TYPE_CHECKING:
    from charkha.serving.records.places.port import Place


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where a place is, and how to get in; keys as references, `env:NAME` or `file:PATH`."""

    url: str  # a folder, or s3://bucket/prefix
    endpoint_url: str | None = None  # of S3, where it is not Amazon's
    access_key: str | None = None
    secret_key: str | None = None


def open_place(address: Address) -> Place:
    """Return the place at an address.

    Raises:
        UserError: there is no such kind of place, or no such secret.
        MissingExtra: boto3 is not installed.
    """
    url, access_key, secret_key = address.url, address.access_key, address.secret_key
    scheme, separator, _ = url.partition("://")
    if not separator:
        return LocalPlace(Path(url))
    if scheme != "s3":
        raise UserError(
            f"no records can be kept at {url}", fix="set [records] url to a folder or s3://…"
        )
    made = late("charkha.serving.records.places.s3", extra="s3").S3Place(
        url,
        endpoint_url=address.endpoint_url,
        access_key=None if access_key is None else resolve_secret(access_key),
        secret_key=None if secret_key is None else resolve_secret(secret_key),
    )
    return cast("Place", made)
