"""Sources of data by their address: a path, `https://`, `s3://`, `kaggle://`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from charkha.data.late import late
from charkha.data.sources.https import HttpsSource
from charkha.data.sources.kaggle import KaggleSource
from charkha.data.sources.path import PathSource
from charkha.errors import UserError

if TYPE_CHECKING:
    from charkha.data.sources.port import DataSource
    from charkha.project import Project

KINDS = "a path, https://…, s3://bucket/key, s3://bucket/folder/ or kaggle://owner/dataset"


def open_source(address: str, project: Project) -> DataSource:
    """Return the source at `address`; nothing is fetched or looked up yet.

    Raises:
        UserError: there are no sources of that kind, or this is no address of that kind.
        MissingExtra: the library for it is not installed.
    """
    scheme, separator, _ = address.partition("://")
    if not separator:
        return PathSource(Path(address).expanduser())
    if scheme in ("https", "http"):
        return HttpsSource(address)
    if scheme == "s3":
        s3 = late("charkha.data.sources.s3", extra="s3")
        source: DataSource = s3.S3Source(address, endpoint_url=project.data.endpoint_url)
        return source
    if scheme == "kaggle":
        return KaggleSource(address)
    raise UserError(f"there is no source for {scheme}://", fix=f"give {KINDS}")
