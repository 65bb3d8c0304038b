"""MLflow's registry in a SQLite file, read with SQL: 2 ms where importing MLflow takes 5 s."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from os.path import exists
from typing import TYPE_CHECKING, TypeVar

from charkha.errors import Unavailable
from charkha.models.registries.port import PACKAGE, ModelVersion

# MLflow keeps a deleted version's row under this stage (model_version_stages.py).
_VERSIONS = """
    SELECT name, version, source, creation_time FROM model_versions
    WHERE coalesce(current_stage, '') != 'Deleted_Internal' AND (:name IS NULL OR name = :name)
    ORDER BY name, version"""
_TAGS = """
    SELECT name, version, key, value FROM model_version_tags WHERE :name IS NULL OR name = :name"""
_ALIASES = """
    SELECT name, version, alias FROM registered_model_aliases
    WHERE :name IS NULL OR name = :name ORDER BY alias"""
_PLACES = """
    SELECT artifact_location FROM experiments WHERE name = :experiment UNION
    SELECT storage_location FROM model_versions
    WHERE coalesce(current_stage, '') != 'Deleted_Internal' AND storage_location IS NOT NULL"""


_Answer = TypeVar("_Answer")


class SqliteRegistry:
    """A Registry in the file that the tracking URI `sqlite:///PATH` names."""

    def __init__(self, uri: str) -> None:
        self._path = uri.removeprefix("sqlite:///").partition("?")[0]

    def versions(self, name: str | None = None) -> list[ModelVersion]:
        return self._asked(lambda database: _read(database, {"name": name}))

    def places(self, experiment: str) -> list[str]:
        """Return the addresses of the files of this experiment and of all versions."""
        return self._asked(
            lambda database: [
                place for (place,) in database.execute(_PLACES, {"experiment": experiment})
            ]
        )

    def _asked(self, ask: Callable[[sqlite3.Connection], list[_Answer]]) -> list[_Answer]:
        if not exists(self._path):
            return []
        try:
            with closing(_connect(self._path)) as database:
                return ask(database)
        except sqlite3.OperationalError as e:
            if "no such table" in str(e):  # MLflow is about to make its schema
                return []
            raise Unavailable(f"MLflow's database {self._path} does not answer: {e}") from e
        except sqlite3.DatabaseError as e:
            raise Unavailable(
                f"{self._path} is not MLflow's database: {e}",
                fix="set [tracking] uri to another file, or move this one away",
            ) from e


def _connect(path: str) -> sqlite3.Connection:
    """Open the file to read; "rw" all the same, as a writer's `kill -9` leaves work to undo."""
    escaped = path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    database = sqlite3.connect(f"file:{escaped}?mode=rw", uri=True, timeout=5)
    database.execute("PRAGMA query_only = 1")
    return database


def _read(database: sqlite3.Connection, wanted: dict[str, str | None]) -> list[ModelVersion]:
    database.execute("BEGIN")  # the three answers are of one moment
    tags: dict[tuple[str, int], dict[str, str]] = {}
    for model, version, key, value in database.execute(_TAGS, wanted):
        tags.setdefault((model, version), {})[key] = value
    aliases: dict[tuple[str, int], list[str]] = {}
    for model, version, alias in database.execute(_ALIASES, wanted):
        aliases.setdefault((model, version), []).append(alias)
    return [
        ModelVersion(
            model,
            version,
            tags.get((model, version), {}).get(PACKAGE),
            tuple(aliases.get((model, version), ())),
            tags.get((model, version), {}),
            source or "",
            created / 1000,
        )
        for model, version, source, created in database.execute(_VERSIONS, wanted)
    ]


if TYPE_CHECKING:
    from charkha.models.registries.port import Registry

    _: Registry = SqliteRegistry("")
