"""A version's package on this machine: its files laid out from the blobs, each one verified."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

from charkha.errors import Damaged, UserError
from charkha.pipeline.artifacts import Artifact
from charkha.pipeline.runs import open_artifacts

if TYPE_CHECKING:
    from charkha.models.registries.port import ModelVersion
    from charkha.project import Project


def package_folder(project: Project, package: str, what: str) -> Path:
    """Return a read-only folder with the package of this digest; `what` is whose, for a message.

    Raises:
        Damaged: its bytes are gone or are not those that were stored.
        Unavailable: the blob store did not answer.
    """
    try:
        kept = Artifact.from_identity(f"dir:{package}")
        return cast("Path", open_artifacts(project).load(kept, Path))
    except Damaged as e:
        raise Damaged(
            f"the package of {what} cannot be read: {e.what}",
            key=e.key,
            fix="see that [blobs] url is where it was registered from, or make it again: "
            "charkha run at the commit of that version",
        ) from e


def folder_of(project: Project, version: ModelVersion) -> Path:
    """Return a read-only folder with the package of a version.

    Raises:
        UserError: the version was not made by Charkha.
        Damaged: its bytes are gone or are not those that were stored.
        Unavailable: the blob store did not answer.
    """
    if version.package is None:
        raise UserError(
            f"{version} has no package: it was registered without Charkha",
            fix="register(model, …) in the pipeline makes versions that Charkha can serve",
        )
    return package_folder(project, version.package, str(version))
