"""MLflow's registry in a PostgreSQL database, read with SQL: 20 ms where MLflow takes seconds."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import psycopg

from charkha.errors import BackendError, Unavailable
from charkha.models.registries.port import PACKAGE, ModelVersion

_TIMEOUT_S = 5  # a registry that is slower is as good as down
# MLflow keeps a deleted version's row under this stage (model_version_stages.py).
_VERSIONS = """
    SELECT name, version, source, creation_time FROM model_versions
    WHERE coalesce(current_stage, '') != 'Deleted_Internal'
    AND (%(name)s::text IS NULL OR name = %(name)s)"""
_TAGS = """
    SELECT name, version, key, value FROM model_version_tags
    WHERE %(name)s::text IS NULL OR name = %(name)s"""
_ALIASES = """
    SELECT name, version, alias FROM registered_model_aliases
    WHERE %(name)s::text IS NULL OR name = %(name)s"""


class PostgresqlRegistry:
    """A Registry in the database that the tracking URI `postgresql://…` names."""

    def __init__(self, uri: str) -> None:
        self._address = re.sub(r"^postgresql\+\w+:", "postgresql:", uri)  # libpq knows no drivers

    def versions(self, name: str | None = None) -> list[ModelVersion]:
        try:
            with psycopg.connect(self._address, connect_timeout=_TIMEOUT_S) as connection:
                connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ  # one moment
                connection.read_only = True
                connection.execute(f"SET statement_timeout = '{_TIMEOUT_S}s'")
                return _read(connection, {"name": name})
        except psycopg.errors.UndefinedTable:  # MLflow is about to make its schema
            return []
        except (psycopg.OperationalError, psycopg.InterfaceError) as e:
            raise Unavailable(
                f"MLflow's database at {self._place()} does not answer: {_line(e)}",
                fix="start it, or correct [tracking] uri in charkha.toml",
            ) from e
        except psycopg.Error as e:
            raise BackendError(
                f"MLflow's database at {self._place()} refused: {_line(e)}",
                fix="see that [tracking] uri in charkha.toml names MLflow's database",
            ) from e

    def _place(self) -> str:
        """Return the address without user, password and options."""
        return self._address.partition("://")[2].rpartition("@")[2].partition("?")[0]


def _read(connection: psycopg.Connection[Any], wanted: dict[str, str | None]) -> list[ModelVersion]:
    tags: dict[tuple[str, int], dict[str, str]] = {}
    for model, version, key, value in connection.execute(_TAGS, wanted):
        tags.setdefault((model, version), {})[key] = value
    aliases: dict[tuple[str, int], list[str]] = {}
    for model, version, alias in connection.execute(_ALIASES, wanted):
        aliases.setdefault((model, version), []).append(alias)
    found = [
        ModelVersion(
            model,
            version,
            tags.get((model, version), {}).get(PACKAGE),
            tuple(sorted(aliases.get((model, version), ()))),
            tags.get((model, version), {}),
            source or "",
            created / 1000,
        )
        for model, version, source, created in connection.execute(_VERSIONS, wanted)
    ]
    return sorted(found, key=lambda version: (version.name, version.version))


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


if TYPE_CHECKING:
    from charkha.models.registries.port import Registry

    _: Registry = PostgresqlRegistry("")
