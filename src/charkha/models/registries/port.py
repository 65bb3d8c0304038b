"""Registry: read model versions and their aliases, in milliseconds where the backend allows it."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from charkha.errors import BackendError

PACKAGE = "charkha.package"  # the tag that holds the content digest of a version's package


class ModelVersion(NamedTuple):
    """One version as the registry has it."""

    name: str
    version: int
    package: str | None  # digest of the package folder; None for a version that we did not make
    aliases: tuple[str, ...]  # sorted
    tags: dict[str, str]
    source: str
    created_at: float  # unix seconds

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"


class SignInNeeded(BackendError):
    """The registry wants credentials, which only MLflow itself knows how to find."""


class Registry(Protocol):
    """Where model versions are looked up. Reads only: `charkha.models.versions` writes."""

    def versions(self, name: str | None = None) -> list[ModelVersion]:
        """Return every version of the model `name` (of all models without one), oldest first.

        A registry that was never written to, or a name that it does not know, gives [].

        Raises:
            Unavailable: it did not answer.
            BackendError: it answered with a refusal.
        """
        ...
