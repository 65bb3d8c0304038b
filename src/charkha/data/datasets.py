"""Datasets as a pipeline takes them: told apart by their md5, loaded only when a step has to run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Self

from charkha.data.digests import FileDigests
from charkha.data.formats import CHECKS_SUFFIX, table_format
from charkha.data.late import late
from charkha.data.pointers import Pointer, check_name, find_pointer
from charkha.errors import DataError
from charkha.project import open_project

if TYPE_CHECKING:
    from charkha.project import Project


def dataset(name: str, *, checked: bool = False) -> Dataset:
    """Return the dataset `name` of the project, to be given to a step or loaded.

    Args:
        name: as `charkha data list` shows it.
        checked: hold it against `<name>.checks.toml` beside it whenever it is loaded, and stop
            where a rule is broken.

    Raises:
        DataError: no dataset can have this name.
    """
    return Dataset(name, checked=checked)


class Dataset:
    """One dataset in the version that lies in the working copy; a Source of a pipeline.

    Without a project it belongs to the one around the current folder.
    """

    def __init__(self, name: str, *, checked: bool = False, project: Project | None = None) -> None:
        self.name = check_name(name)
        self.checked = checked
        self._project = project

    def __repr__(self) -> str:
        return f"dataset({self.name!r}{', checked=True' if self.checked else ''})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Dataset) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def bind(self, project: Project) -> Self:
        """Return the dataset of this name in `project`."""
        return type(self)(self.name, checked=self.checked, project=project)

    @property
    def path(self) -> Path:
        """Where it lies in the working copy."""
        return self._pointer().path

    @property
    def checks_file(self) -> Path:
        """Where its rules stand."""
        return self._bound.data.folder / f"{self.name}{CHECKS_SUFFIX}"

    def fingerprint(self, given: Mapping[str, str]) -> str:
        """Say what the dataset is now: `md5:` and the hash that its `.dvc` file has or would have.

        It is that of the file in the working copy, added or not; where it was not pulled, that of
        the pointer, for a run that reuses everything needs no data. When checked, the checks file
        is part of it, and so is that the data has become too old: then what was computed from it
        is not reused, and loading it says why.

        Raises:
            DataError: there is no such dataset, or no checks file.
        """
        pointer = self._pointer()
        digests = FileDigests(self._bound.state)
        md5 = digest(pointer, digests) or pointer.md5
        said = [f"md5:{md5}"]
        if self.checked:
            said.append(f"checks:{self._checks_digest(digests)}")
            said += self._age(pointer, md5)
        digests.save()
        return " ".join(said)

    def load(self, wanted: type | None = None) -> object:
        """Return the dataset as a DataFrame (tables, by default), a `pyarrow.Table` or a path.

        Args:
            wanted: the type, or None; a class with `__fspath__` is made from the path.

        Raises:
            DataError: not pulled, not readable as what was wanted, or a rule is broken.
        """
        pointer = self._pointer()
        if self._bound.data.pull and not pointer.path.exists():
            self._pull(pointer)
        if not pointer.path.exists():
            raise DataError(
                f"the dataset {self.name!r} is not here: {pointer.path} was not pulled",
                fix=f"charkha data pull {self.name}",
            )
        if self.checked:
            checking = late("charkha.data.checking", extra="checks")
            checking.check(self.name, pointer, self.checks_file, self._bound.state)
        return read(pointer.path, wanted)

    def _pull(self, pointer: Pointer) -> None:
        """Bring it from the remote, as old as its pointer: a step that waits for it changes nothing."""
        late("charkha.data.moving", extra="dvc").pull(self._bound, [self.name])
        at = pointer.file.stat().st_mtime_ns
        for path in (pointer.path, *pointer.path.rglob("*")):
            os.utime(path, ns=(at, at))

    def describe(self) -> dict[str, object]:
        """Return JSON from which `revive` makes it again."""
        return {
            "source": "charkha.data.datasets:Dataset",
            "name": self.name,
            "checked": self.checked,
        }

    @classmethod
    def revive(cls, description: dict[str, object], project: Project) -> Self:
        """Make the dataset that `describe` described, in `project`."""
        checked = bool(description["checked"])
        return cls(str(description["name"]), checked=checked, project=project)

    @property
    def _bound(self) -> Project:
        if self._project is None:
            self._project = open_project()
        return self._project

    def _pointer(self) -> Pointer:
        return find_pointer(self._bound.data.folder, self.name)

    def _checks_digest(self, digests: FileDigests) -> str:
        file = self.checks_file
        if not file.is_file():
            raise DataError(
                f"{self.name} is to be checked, and {file} does not exist",
                fix="declare its rules there, or take `checked=True` out",
            )
        return digests.file(file)

    def _age(self, pointer: Pointer, md5: str) -> list[str]:
        freshness = late("charkha.data.freshness", extra="checks")
        failed = freshness.failures(pointer, md5, self.checks_file, self._bound.state)
        return ["too old"] if failed else []

    def _identity(self) -> tuple[str, bool, Path | None]:
        root = None if self._project is None else self._project.root
        return self.name, self.checked, root


def digest(pointer: Pointer, digests: FileDigests) -> str | None:
    """Return the md5, as DVC counts it, of what lies in the working copy; None if nothing does."""
    if pointer.path.is_dir():
        return digests.folder(pointer.path, "md5")
    if pointer.path.is_file():
        return digests.file(pointer.path, "md5")
    return None


def read(path: Path, wanted: type | None) -> object:
    """Return what lies at `path` as a `wanted`, or as what it is best taken for.

    Raises:
        DataError: it cannot be had as that.
    """
    if wanted is None or wanted is object:
        return _frame(path) if path.is_file() and table_format(path) else path
    library = wanted.__module__.partition(".")[0]
    if library == "pandas":
        return _frame(path)
    if library == "pyarrow":
        return late("charkha.data.tables", extra="tables").read_arrow(path)
    if issubclass(wanted, os.PathLike):
        return wanted(path)  # type: ignore[call-arg]  # Path, File and Dir take one
    raise DataError(
        f"{path.name} cannot be loaded as {wanted.__qualname__}",
        fix="annotate the parameter as pandas.DataFrame, pyarrow.Table or pathlib.Path",
    )


def _frame(path: Path) -> object:
    return late("charkha.data.tables", extra="tables").read_frame(path)
