"""Values that a graph takes from outside: files, folders, and whatever else is a Source."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self, runtime_checkable

from charkha.data.digests import FileDigests
from charkha.errors import DataError

if TYPE_CHECKING:
    from charkha.project import Project


@runtime_checkable
class Source(Protocol):
    """A value from outside the graph: told apart cheaply, loaded only when a step has to run."""

    @property
    def name(self) -> str:
        """What people call it: `ames`, `data/prices.csv`."""
        ...

    def bind(self, project: Project) -> Source:
        """Return this source as seen from `project`."""
        ...

    def fingerprint(self, given: Mapping[str, str]) -> str:
        """Say what the value is now, in a few milliseconds and without loading it.

        `given` has the digests of the step's other inputs by parameter name.
        """
        ...

    def load(self, wanted: type | None) -> object:
        """Return the value, as a `wanted` where it can be had in several types."""
        ...

    def describe(self) -> dict[str, object]:
        """Return JSON with "source": "module:Class"; `Class.revive(it, project)` makes it again."""
        ...

    @classmethod
    def revive(cls, description: dict[str, object], project: Project) -> Self:
        """Make the source that `describe` described."""
        ...


class _Path:
    """What File and Dir share: a path in the project, and a name for people."""

    def __init__(self, path: str | os.PathLike[str], *, root: Path | None = None) -> None:
        self.given = os.fspath(path)
        self._root = root
        self._digests: FileDigests | None = None

    @property
    def path(self) -> Path:
        """The path, absolute once a project is known."""
        return (self._root or Path()) / self.given

    @property
    def name(self) -> str:
        return self.given

    def __fspath__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.given!r})"

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and os.fspath(other) == os.fspath(self)

    def __hash__(self) -> int:
        return hash(os.fspath(self))

    def bind(self, project: Project) -> Self:
        bound = type(self)(self.given, root=project.root)
        bound._digests = FileDigests(project.state)
        return bound

    def load(self, wanted: type | None) -> object:
        self._check()
        return self.path if wanted is not None and issubclass(wanted, Path) else self

    def describe(self) -> dict[str, object]:
        return {"source": f"charkha.pipeline.values:{type(self).__name__}", "path": self.given}

    @classmethod
    def revive(cls, description: dict[str, object], project: Project) -> Self:
        return cls(str(description["path"])).bind(project)

    def _check(self) -> None:
        raise NotImplementedError


class File(_Path):
    """One file, by content: as an argument in a pipeline, or returned by a step."""

    def fingerprint(self, given: Mapping[str, str]) -> str:
        self._check()
        digests = self._digests or FileDigests(None)
        digest = digests.file(self.path)
        digests.save()
        return f"sha256:{digest}"

    def read_bytes(self) -> bytes:
        return self.path.read_bytes()

    def read_text(self, encoding: str = "utf-8") -> str:
        return self.path.read_text(encoding)

    def _check(self) -> None:
        if not self.path.is_file():
            what = "is a folder" if self.path.is_dir() else "does not exist"
            raise DataError(
                f"File({self.given!r}): {self.path} {what}",
                fix=f"use Dir({self.given!r})" if self.path.is_dir() else "correct the path",
            )


class Dir(_Path):
    """A folder, by the names and the content of all files in it."""

    def fingerprint(self, given: Mapping[str, str]) -> str:
        self._check()
        digests = self._digests or FileDigests(None)
        digest = digests.folder(self.path)
        digests.save()
        return f"sha256:{digest}"

    def _check(self) -> None:
        if not self.path.is_dir():
            what = "is a file" if self.path.is_file() else "does not exist"
            raise DataError(
                f"Dir({self.given!r}): {self.path} {what}",
                fix=f"use File({self.given!r})" if self.path.is_file() else "correct the path",
            )


if TYPE_CHECKING:
    _file: Source = File("")
    _dir: Source = Dir("")
