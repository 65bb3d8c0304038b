"""A dataset held against all its rules."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from charkha.data import freshness, pandera
from charkha.data.checks import Failure, broken, read_rules
from charkha.data.datasets import digest
from charkha.data.digests import FileDigests
from charkha.data.formats import CHECKS_SUFFIX
from charkha.data.pointers import Pointer, find_pointer, find_pointers, name_of
from charkha.data.tables import read_frame
from charkha.errors import DataError

if TYPE_CHECKING:
    from charkha.project import Project


def check_all(project: Project, names: list[str]) -> dict[str, list[Failure]]:
    """Return what each of these datasets breaks; without names, each that has rules.

    Raises:
        DataError: there is no such dataset, or one has no rules, is not here, or is no table.
        ProjectError: a checks file is wrong.
    """
    folder = project.data.folder
    chosen = names or [
        name
        for name in (name_of(pointer.file, folder) for pointer in find_pointers(folder))
        if (folder / f"{name}{CHECKS_SUFFIX}").exists()
    ]
    found = {}
    for name in chosen:
        pointer = find_pointer(folder, name)
        if not pointer.path.exists():
            raise DataError(f"{name} is not here", fix=f"charkha data pull {name}")
        found[name] = failures(pointer, folder / f"{name}{CHECKS_SUFFIX}", project.state)
    return found


def check(name: str, pointer: Pointer, checks_file: Path, state: Path) -> None:
    """Do nothing where every rule holds.

    Raises:
        DataError: a rule is broken, with the first rows of each; or there are no rules, or no table.
        ProjectError: the checks file is wrong.
    """
    if found := failures(pointer, checks_file, state):
        raise broken(name, found, checks_file)


def failures(pointer: Pointer, checks_file: Path, state: Path) -> list[Failure]:
    """Return every rule that the working copy breaks.

    Raises:
        DataError: there are no rules, or there is no table.
        ProjectError: the checks file is wrong.
    """
    rules = read_rules(checks_file)
    found = pandera.failures(read_frame(pointer.path), rules)
    md5 = digest(pointer, FileDigests(state)) or pointer.md5
    return [*found, *freshness.failures(pointer, md5, checks_file, state)]
