"""MLflow's registry through MLflow itself: versions, their tags, and aliases.

Importing this takes 5 s. Who only reads goes through `charkha.models.registry`.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

# MLflow decides at its import whether it reports usage; nobody asked us for that.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import mlflow
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion as Found
from mlflow.exceptions import MlflowException

from charkha.errors import BackendError, NotFound, Unavailable
from charkha.models.registries.port import PACKAGE, ModelVersion

if TYPE_CHECKING:
    from charkha.models.aliasing import Move

_PAGE = 1000
_RETRY = {"TEMPORARILY_UNAVAILABLE", "INTERNAL_ERROR", "REQUEST_LIMIT_EXCEEDED"}
ABSENT = {"RESOURCE_DOES_NOT_EXIST", "NOT_FOUND"}
_SIGN_IN = {"UNAUTHENTICATED", "PERMISSION_DENIED", "CUSTOMER_UNAUTHORIZED"}


def connect(uri: str, endpoint_url: str | None = None) -> MlflowClient:
    """Point MLflow at `uri` for this process, quietly, and return a client.

    A SQLite database is made here if there is none, which takes 5 s.

    Raises:
        Unavailable: it does not answer.
    """
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # Our own tracker waits and tries again; MLflow's seven retries would hide that for minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    if endpoint_url:
        os.environ["MLFLOW_S3_ENDPOINT_URL"] = endpoint_url
    if uri.startswith("sqlite:///"):
        Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    with translated(uri):
        mlflow.set_tracking_uri(uri)
        mlflow.set_registry_uri(uri)
        return MlflowClient(uri, uri)


class MlflowRegistry:
    """A Registry that also writes."""

    def __init__(self, uri: str, endpoint_url: str | None = None) -> None:
        self._uri = uri
        self._client = connect(uri, endpoint_url)

    def versions(self, name: str | None = None) -> list[ModelVersion]:
        escaped = (name or "").replace("'", "''")
        wanted = f"name = '{escaped}'" if name else None
        with translated(self._uri):
            aliases: dict[tuple[str, int], list[str]] = {}
            for model in _pages(self._client.search_registered_models, wanted):
                for alias, version in model.aliases.items():
                    aliases.setdefault((model.name, int(version)), []).append(alias)
            found = list(_pages(self._client.search_model_versions, wanted))
        versions = [_version(row, aliases) for row in found]
        return sorted(versions, key=lambda version: (version.name, version.version))

    def add_version(
        self, name: str, model_id: str, run_id: str, tags: Mapping[str, str], description: str
    ) -> int:
        """Make a version of the logged model `model_id`, and the model if it is the first."""
        with translated(self._uri):
            if not _has_model(self._client, name):
                self._create_model(name)
            made = self._client.create_model_version(
                name,
                f"models:/{model_id}",
                run_id=run_id,
                tags=dict(tags),
                description=description,
                model_id=model_id,
            )
        return int(made.version)

    def remove_version(self, version: ModelVersion) -> None:
        """Delete a version."""
        with translated(self._uri):
            self._client.delete_model_version(version.name, str(version.version))

    def tag(self, version: ModelVersion, tags: Mapping[str, str]) -> None:
        """Set tags of a version; those that are the same already are left alone."""
        with translated(self._uri):
            for key, value in tags.items():
                if version.tags.get(key) != value:
                    self._client.set_model_version_tag(
                        version.name, str(version.version), key, value
                    )

    def move(self, name: str, moves: Iterable[Move]) -> None:
        """Carry out the moves in their order. Doing it again changes nothing."""
        with translated(self._uri):
            for alias, version in moves:
                if version is None:
                    self._client.delete_registered_model_alias(name, alias)
                else:
                    self._client.set_registered_model_alias(name, alias, str(version))

    def _create_model(self, name: str) -> None:
        try:
            self._client.create_registered_model(name)
        except MlflowException as e:
            if e.error_code != "RESOURCE_ALREADY_EXISTS":  # another tracker was first
                raise


@contextmanager
def translated(where: str) -> Iterator[None]:
    """Turn what MLflow and the libraries below it raise into our errors.

    Raises:
        NotFound: there is no such run, model or version.
        Unavailable: nobody answered, or not in a usable way; worth trying again.
        BackendError: it answered with a refusal.
    """
    place = where.rpartition("@")[2]  # without user and password
    try:
        yield
    except MlflowException as e:
        raise _ours(e, place) from e
    except (ConnectionError, TimeoutError) as e:
        raise Unavailable(f"MLflow at {place} does not answer: {e}") from e
    except _vendor_errors() as e:
        raise Unavailable(f"MLflow at {place} does not answer: {_first_line(e)}") from e


def _ours(error: MlflowException, place: str) -> BackendError:
    said = _first_line(error)
    if error.error_code in _RETRY:
        return Unavailable(
            f"MLflow at {place} does not answer: {said}",
            fix="start it, or correct [tracking] uri in charkha.toml",
        )
    if error.error_code in ABSENT:
        return NotFound(f"MLflow at {place}: {said}")
    if error.error_code in _SIGN_IN:
        return BackendError(
            f"MLflow at {place} wants credentials: {said}",
            fix="export MLFLOW_TRACKING_USERNAME=… MLFLOW_TRACKING_PASSWORD=…",
        )
    return BackendError(f"MLflow at {place} refused: {said}")


def _vendor_errors() -> tuple[type[Exception], ...]:
    """Return what libraries below MLflow raise, of those that it has imported by now."""
    names = (
        ("requests.exceptions", "RequestException"),
        ("sqlalchemy.exc", "SQLAlchemyError"),
        ("botocore.exceptions", "BotoCoreError"),
        ("botocore.exceptions", "ClientError"),
        ("boto3.exceptions", "Boto3Error"),
    )
    return tuple(getattr(sys.modules[m], name) for m, name in names if m in sys.modules)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def _pages(search, wanted: str | None):  # type: ignore[no-untyped-def]  # MLflow has no types here
    token = None
    while True:
        page = search(filter_string=wanted, max_results=_PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _has_model(client: MlflowClient, name: str) -> bool:
    escaped = name.replace("'", "''")
    return bool(client.search_registered_models(filter_string=f"name = '{escaped}'", max_results=1))


def _version(row: Found, aliases: Mapping[tuple[str, int], list[str]]) -> ModelVersion:
    version = int(row.version)
    return ModelVersion(
        row.name,
        version,
        row.tags.get(PACKAGE),
        tuple(sorted(aliases.get((row.name, version), ()))),
        dict(row.tags),
        row.source or "",
        row.creation_timestamp / 1000,
    )


if TYPE_CHECKING:
    from charkha.models.registries.port import Registry

    _: Registry = MlflowRegistry("")
