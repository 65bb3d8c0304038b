"""Look model versions up by name, version or alias, without importing MLflow."""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING

from charkha.errors import MissingExtra, UserError
from charkha.models.registries.port import ModelVersion, SignInNeeded

if TYPE_CHECKING:
    from charkha.models.registries.port import Registry
    from charkha.project import Project

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"

_POSTGRESQL = "charkha.models.registries.postgresql:PostgresqlRegistry"
# How a tracking URI's scheme is read; anything else goes through MLflow in a process of its own.
_READERS = {
    "sqlite": "charkha.models.registries.sqlite:SqliteRegistry",
    "http": "charkha.models.registries.rest:RestRegistry",
    "https": "charkha.models.registries.rest:RestRegistry",
    "postgresql": _POSTGRESQL,
    "postgresql+psycopg": _POSTGRESQL,
}
_ANY = "charkha.models.registries.process:ProcessRegistry"
_REFERENCE = re.compile(r"(?:models:/)?(?P<name>[^@/]+)(?:[@/](?P<which>[^@/]+))?")


def list_versions(project: Project, name: str | None = None) -> list[ModelVersion]:
    """Return every version of `name` (of all models without one), oldest first.

    Raises:
        Unavailable: the registry did not answer.
        MissingExtra: the library that it takes is not installed.
    """
    uri = project.tracking.uri
    registry = _open(_READERS.get(uri.partition(":")[0], _ANY), uri)
    try:
        return registry.versions(name)
    except SignInNeeded:
        return _open(_ANY, uri).versions(name)


def find_version(project: Project, reference: str) -> ModelVersion:
    """Return the version that `name@champion`, `name@3` or `name` (its champion) stands for.

    MLflow's own `models:/name@champion` and `models:/name/3` are understood too.

    Raises:
        UserError: there is no such model, version or alias; says which there are.
        Unavailable: the registry did not answer.
    """
    name, which = parse_reference(reference)
    versions = list_versions(project, name)
    if not versions:
        raise _unknown_model(project, name)
    for version in versions:
        if which in (str(version.version), *version.aliases):
            return version
    known = ", ".join(dict.fromkeys(_names(versions)))
    lacking = f"no version {which}" if which.isdigit() else f"no {which}"
    raise UserError(f"model {name!r} has {lacking}", fix=f"use one of: {known}")


def parse_reference(reference: str) -> tuple[str, str]:
    """Split `name@3` into `("name", "3")`; without a version it is the champion that is meant.

    Raises:
        UserError: this is no reference to a model version.
    """
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        raise UserError(
            f"{reference!r} names no model version", fix="write NAME, NAME@3 or NAME@champion"
        )
    return match["name"], match["which"] or CHAMPION


def snapshot(project: Project, name: str) -> list[ModelVersion] | None:
    """Return the versions of `name` as they were when the registry last answered `keep`'s caller.

    None if it never did.
    """
    try:
        with open(_snapshot(project, name), encoding="utf-8") as file:
            rows = json.load(file)
    except (FileNotFoundError, ValueError):  # ValueError: torn by a power cut
        return None
    return [ModelVersion(**{**row, "aliases": tuple(row["aliases"])}) for row in rows]


def keep_snapshot(project: Project, name: str, versions: list[ModelVersion]) -> None:
    """Remember `versions` for `snapshot`; a folder that can not be written is no error here."""
    path = _snapshot(project, name)
    text = json.dumps([version._asdict() for version in versions], sort_keys=True)
    with suppress(OSError):
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                if file.read() == text:
                    return
        os.makedirs(os.path.dirname(path), exist_ok=True)
        partial = f"{path}.{os.getpid()}.partial"
        with open(partial, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(partial, path)


def _open(path: str, uri: str) -> Registry:
    module, _, name = path.partition(":")
    try:
        registry: Registry = getattr(import_module(module), name)(uri)
    except ModuleNotFoundError as e:  # the others need the standard library alone
        if e.name != "psycopg":
            raise
        raise MissingExtra(e.name, "postgresql") from e
    return registry


def _snapshot(project: Project, name: str) -> str:
    return f"{project.state}/registry/{name}.json"


def _names(versions: list[ModelVersion]) -> list[str]:
    """Return all that may stand behind the @: aliases first, then versions, newest first."""
    aliases = [alias for version in versions for alias in version.aliases]
    return [*sorted(aliases), *(str(version.version) for version in reversed(versions))]


def _unknown_model(project: Project, name: str) -> UserError:
    known = sorted({version.name for version in list_versions(project)})
    if not known:
        return UserError(
            f"no model is called {name!r}: none is registered yet",
            fix="charkha run, with register(model, …) in the pipeline",
        )
    meant = import_module("charkha.definition").nearest(name, known)  # late: for a mistake only
    fix = f"did you mean {meant!r}?" if meant else f"use one of: {', '.join(known)}"
    return UserError(f"no model is called {name!r}", fix=fix)
