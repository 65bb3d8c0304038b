"""MLflow's registry behind a tracking server, asked over its REST API without importing MLflow."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.client import HTTPException
from typing import TYPE_CHECKING, cast
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

from charkha.errors import BackendError, Unavailable
from charkha.models.registries.port import PACKAGE, ModelVersion, SignInNeeded

_TIMEOUT_S = 5.0  # of silence; a registry that is slower is as good as down
_PAGE = 200
_Json = dict[str, object]


class RestRegistry:
    """A Registry behind the tracking server at `uri`."""

    def __init__(self, uri: str) -> None:
        self._uri = uri.rstrip("/")

    def versions(self, name: str | None = None) -> list[ModelVersion]:
        quoted = (name or "").replace("'", "''")
        wanted = {"filter": f"name = '{quoted}'"} if name else {}
        aliases: dict[tuple[str, int], list[str]] = {}
        for model in self._pages("registered-models/search", "registered_models", wanted):
            for alias in _list(model, "aliases"):
                key = (str(model["name"]), int(str(alias["version"])))
                aliases.setdefault(key, []).append(str(alias["alias"]))
        found = [
            _version(row, aliases)
            for row in self._pages("model-versions/search", "model_versions", wanted)
        ]
        return sorted(found, key=lambda version: (version.name, version.version))

    def _pages(self, path: str, key: str, wanted: dict[str, str]) -> Iterator[_Json]:
        token = ""
        while True:
            page = self._get(path, {**wanted, "max_results": str(_PAGE), "page_token": token})
            yield from _list(page, key)
            token = str(page.get("next_page_token") or "")
            if not token:
                return

    def _get(self, path: str, query: dict[str, str]) -> _Json:
        url = f"{self._uri}/api/2.0/mlflow/{path}?{urlencode(query)}"
        try:  # the scheme is http(s): registry.py comes here for no other
            with urlopen(Request(url), timeout=_TIMEOUT_S) as answer:  # noqa: S310
                return cast("_Json", json.load(answer))
        except HTTPError as e:
            raise self._refused(e) from e
        except (OSError, HTTPException, ValueError) as e:  # ValueError: that was not JSON
            raise Unavailable(
                f"the tracking server {self._uri} does not answer: {e}",
                fix="start it, or correct [tracking] uri in charkha.toml",
            ) from e

    def _refused(self, error: HTTPError) -> BackendError:
        if error.code in (401, 403):
            return SignInNeeded(f"the tracking server {self._uri} wants credentials: {error}")
        if error.code >= 500 or error.code == 429:
            return Unavailable(f"the tracking server {self._uri} does not answer: {error}")
        return BackendError(
            f"{self._uri} refused {error.url}: {error}",
            fix="see that [tracking] uri in charkha.toml names an MLflow server",
        )


def _list(page: _Json, key: str) -> list[_Json]:
    return cast("list[_Json]", page.get(key) or [])


def _version(row: _Json, aliases: dict[tuple[str, int], list[str]]) -> ModelVersion:
    name, version = str(row["name"]), int(str(row["version"]))
    tags = {str(tag["key"]): str(tag.get("value", "")) for tag in _list(row, "tags")}
    return ModelVersion(
        name,
        version,
        tags.get(PACKAGE),
        tuple(sorted(aliases.get((name, version), ()))),
        tags,
        str(row.get("source") or ""),
        float(str(row["creation_timestamp"])) / 1000,
    )


if TYPE_CHECKING:
    from charkha.models.registries.port import Registry

    _: Registry = RestRegistry("")
