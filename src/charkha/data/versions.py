"""Versions of datasets: which there are, and what is in the working copy of each."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from charkha.data.datasets import digest
from charkha.data.digests import FileDigests
from charkha.data.git import Commit, Git
from charkha.data.pointers import Pointer, find_pointer, find_pointers, name_of, parse_pointer
from charkha.errors import DataError

if TYPE_CHECKING:
    from charkha.project import Project

State = Literal["unchanged", "changed, not added", "not pulled"]
_HASH = re.compile(r"[0-9a-f]{4,32}")


@dataclass(frozen=True, kw_only=True)
class DatasetVersion:
    """The bytes that a dataset had from one commit on (or has now, before any)."""

    name: str
    pointer: Pointer
    commit: Commit | None = None  # the first with these bytes; None while they are not committed
    text: str | None = None  # of the `.dvc` file in that commit

    @property
    def short(self) -> str:
        """The hash by which a person names the version."""
        return self.pointer.md5[:8]

    def as_json(self) -> dict[str, object]:
        pointer, commit = self.pointer, self.commit
        return {
            "name": self.name,
            "version": self.short,
            "md5": pointer.md5,
            "size_bytes": pointer.size_bytes,
            "files": pointer.files,
            "rows": pointer.rows,
            "columns": pointer.columns,
            "source": pointer.source,
            "commit": commit and commit.revision,
            "at": commit and commit.at.isoformat(),
            "author": commit and commit.author,
            "subject": commit and commit.subject,
        }


@dataclass(frozen=True, kw_only=True)
class DatasetStatus:
    """What is in the working copy of a dataset."""

    version: DatasetVersion
    state: State
    committed: bool  # whether the pointer is in git as it is

    def as_json(self) -> dict[str, object]:
        pointer = self.version.pointer
        return {
            "name": self.version.name,
            "path": str(pointer.path),
            "state": self.state,
            "committed": self.committed,
            "version": self.version.short,
            "md5": pointer.md5,
            "size_bytes": pointer.size_bytes,
            "files": pointer.files,
            "rows": pointer.rows,
            "columns": pointer.columns,
            "source": pointer.source,
        }


def statuses(project: Project, names: list[str] | None = None) -> list[DatasetStatus]:
    """Return the datasets of these names (all without any), by name.

    Raises:
        DataError: no dataset has one of the names, or the project is not in git.
    """
    folder = project.data.folder
    if names:
        pointers = [find_pointer(folder, name) for name in dict.fromkeys(names)]
    else:
        pointers = find_pointers(folder)
    uncommitted = Git(project.root).uncommitted([pointer.file for pointer in pointers])
    digests = FileDigests(project.state)
    found = [
        DatasetStatus(
            version=DatasetVersion(name=name_of(pointer.file, folder), pointer=pointer),
            state=state_of(pointer, digests),
            committed=pointer.file not in uncommitted,
        )
        for pointer in pointers
    ]
    digests.save()
    return found


def state_of(pointer: Pointer, digests: FileDigests) -> State:
    """Compare the working copy with its pointer."""
    md5 = digest(pointer, digests)
    if md5 is None:
        return "not pulled"
    return "unchanged" if md5 == pointer.md5 else "changed, not added"


def log(project: Project, name: str) -> list[DatasetVersion]:
    """Return the versions of a dataset on the way to HEAD, newest first.

    A version that is not committed yet comes first, with no commit.

    Raises:
        DataError: there is no such dataset, or the project is not in git.
    """
    now = find_pointer(project.data.folder, name)
    git = Git(project.root)
    found: list[DatasetVersion] = []
    for commit in reversed(git.commits(now.file)):
        text = git.read(commit.revision, now.file)
        if text is None:  # taken out in this commit
            continue
        pointer = parse_pointer(text, now.file)
        if not found or found[-1].pointer.md5 != pointer.md5:
            found.append(DatasetVersion(name=name, pointer=pointer, commit=commit, text=text))
    if not found or found[-1].pointer.md5 != now.md5:
        found.append(DatasetVersion(name=name, pointer=now, text=now.file.read_text("utf-8")))
    return found[::-1]


def find_version(project: Project, name: str, version: str) -> DatasetVersion:
    """Return the version that a git revision or the first digits (at least 4) of an md5 name.

    Raises:
        DataError: nothing or more than one thing has that name, or the dataset was not there then.
    """
    now = find_pointer(project.data.folder, name)
    versions = log(project, name)
    by_hash = {
        found.pointer.md5: found
        for found in versions
        if _HASH.fullmatch(version) and found.pointer.md5.startswith(version)
    }
    git = Git(project.root)
    revision = git.revision(version)
    if revision is not None:
        text = git.read(revision, now.file)
        if text is not None:
            pointer = parse_pointer(text, now.file)
            by_hash.setdefault(pointer.md5, DatasetVersion(name=name, pointer=pointer, text=text))
        elif not by_hash:
            raise DataError(
                f"{name} was not there in {version}", fix=f"choose from: charkha data log {name}"
            )
    if len(by_hash) > 1:
        meant = ", ".join(found.short for found in by_hash.values())
        raise DataError(
            f"{version} may be {len(by_hash)} versions of {name}: {meant}",
            fix="give more digits of the one that you mean",
        )
    if not by_hash:
        raise DataError(
            f"{name} has no version {version!r}: no git revision and no md5 starts so",
            fix=f"choose from: charkha data log {name}",
        )
    return next(iter(by_hash.values()))
