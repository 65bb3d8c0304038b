"""Bytes under the name of their content: the port, its adapters, and how a project's is opened."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

from charkha import plugins
from charkha.data.blobs.local import LocalBlobs
from charkha.project import read_secret

if TYPE_CHECKING:
    from charkha.data.blobs.port import BlobStore
    from charkha.project import Project


def open_blobs(project: Project) -> BlobStore:
    """Return the store that `[blobs] url` names: a folder, or `s3://…` with a folder before it.

    Raises:
        ProjectError: a secret that the store wants is not set.
        MissingExtra: its library is not installed.
    """
    settings = project.blobs
    scheme, separator, _ = settings.url.partition("://")
    if not separator:
        return LocalBlobs(Path(project.root, settings.url))
    far = plugins.find("blobs", scheme)(
        settings.url,
        endpoint_url=settings.endpoint_url,
        access_key=read_secret(project, "blobs", "access_key"),
        secret_key=read_secret(project, "blobs", "secret_key"),
    )
    nearby = plugins.find("blobs", "nearby")
    return cast("BlobStore", nearby(LocalBlobs(project.state / "blobs"), far))
