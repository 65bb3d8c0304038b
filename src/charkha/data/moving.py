"""Moving: versions of datasets between the working copy, DVC's cache and its remote."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from charkha.data.datasets import digest
from charkha.data.digests import FileDigests
from charkha.data.late import late
from charkha.data.pointers import Pointer, find_pointer
from charkha.data.refusals import refused
from charkha.data.versions import DatasetVersion, find_version, log, statuses
from charkha.errors import DataError

if TYPE_CHECKING:
    from charkha.data.dvc import Dvc
    from charkha.project import Project


@dataclass(frozen=True, kw_only=True)
class Moved:
    """What was copied."""

    datasets: tuple[str, ...]
    files: int  # that were not there before
    remote: str


def push(project: Project, names: list[str] | None = None) -> Moved:
    """Copy the added versions of these datasets (all without any) to the remote.

    Raises:
        DataError: there is no such dataset, or one has bytes that this machine does not have.
        BackendError: the remote refused or did not answer.
    """
    found = statuses(project, names)
    with _open(project) as dvc:
        for status in found:
            pointer = status.version.pointer
            if dvc.cached(pointer) is None and not dvc.remote_has(pointer):
                name = status.version.name
                raise DataError(
                    f"{name} {status.version.short} is neither here nor in {dvc.remote_url}",
                    fix=f"charkha data add it again, or push it where it was added: {name}",
                )
        dvc.record_remote()
        files = dvc.push([status.version.pointer.file for status in found]) if found else 0
        return Moved(
            datasets=tuple(status.version.name for status in found),
            files=files,
            remote=dvc.remote_url,
        )


def pull(project: Project, names: list[str] | None = None, *, force: bool = False) -> Moved:
    """Bring what the pointers of these datasets (all without any) name into the working copy.

    Raises:
        DataError: there is no such dataset, or one has changes in no version (unless `force`).
        BackendError: the remote refused, did not answer, or does not have it.
    """
    found = statuses(project, names)
    wanted = [status for status in found if status.state != "unchanged"]
    with _open(project) as dvc:
        for status in wanted:
            if not force:
                _refuse_to_lose(project, dvc, status.version.name, status.version.pointer)
        pointers = [status.version.pointer for status in wanted]
        files = dvc.fetch(pointers)
        dvc.checkout([pointer.file for pointer in pointers])
        return Moved(
            datasets=tuple(status.version.name for status in found),
            files=files,
            remote=dvc.remote_url,
        )


def restore(project: Project, name: str, version: str, *, force: bool = False) -> DatasetVersion:
    """Make an earlier version the one in the working copy, pointer and bytes.

    Args:
        project: where the dataset is.
        name: of the dataset.
        version: a git revision, or the first digits of the md5.
        force: overwrite changes that are in no version.

    Raises:
        DataError: there is no such version, or changes would be lost.
        BackendError: the bytes are not here, and the remote does not have them or did not answer.
    """
    found = find_version(project, name, version)
    now = find_pointer(project.data.folder, name)
    with _open(project) as dvc:
        if not force:
            _refuse_to_lose(project, dvc, name, now)
        dvc.fetch([found.pointer])
        before = now.file.read_text("utf-8")
        _write(now.file, found.text or before)
        try:
            dvc.checkout([now.file])
        except BaseException:
            _write(now.file, before)
            raise
    return found


def _open(project: Project) -> Dvc:
    opened: Dvc = late("charkha.data.dvc", extra="dvc").Dvc(project)
    return opened


def _refuse_to_lose(project: Project, dvc: Dvc, name: str, pointer: Pointer) -> None:
    """Refuse where the working copy is in no version that could be had again."""
    md5 = digest(pointer, FileDigests(project.state))
    if md5 is None or md5 == pointer.md5:
        return
    here = pointer._replace(md5=md5, algorithm="md5")
    if dvc.cached(here) or any(version.pointer.md5 == md5 for version in log(project, name)):
        return
    shown = os.path.relpath(pointer.path, project.root)
    raise DataError(
        f"{shown} has changes that were never added",
        fix=f"charkha data add {shown}, or --force to lose them",
    )


def _write(file: Path, text: str) -> None:
    partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
    try:
        partial.write_text(text, "utf-8")
        os.replace(partial, file)
    except OSError as e:
        partial.unlink(missing_ok=True)
        raise refused(e, str(file)) from e
