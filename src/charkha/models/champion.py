"""The version that a candidate has to beat, as a source of the gate step."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Self

from charkha.errors import BackendError, Bug
from charkha.models.packaged import package_folder
from charkha.models.registry import CHAMPION, keep_snapshot, list_versions, snapshot

if TYPE_CHECKING:
    from charkha.models.registries.port import ModelVersion
    from charkha.pipeline.values import Source
    from charkha.project import Project

NONE = "champion:none"
JUDGED_AGAINST = "charkha.judged_against"  # a version's tag with the fingerprint of its verdict
_Found = dict[str, object]  # {"version": 3, "package": "<digest>"}


class Champion:
    """The champion of the model `name`.

    `load` gives {"version": 3, "package": digest, "folder": Path} or None; the version is None
    where the registry has forgotten it.

    A candidate that is itself the champion is not judged against itself: for it, the champion
    is the one that it was judged against when it was registered. So a run after a promotion
    finds its verdict in the cache.

    When the registry does not answer, what it said last time counts; when it never answered, there
    is no champion. Nothing is lost by that: a version gets its alias only at registration, and
    there `charkha.models.aliasing` demands a verdict against the champion of that moment.
    """

    def __init__(self, model: str, *, project: Project | None = None) -> None:
        self._model = model
        self._project = project
        self._decided = False
        self._found: _Found | None = None

    @property
    def name(self) -> str:
        return f"champion of {self._model}"

    def bind(self, project: Project) -> Champion:
        return Champion(self._model, project=project)

    def fingerprint(self, given: Mapping[str, str]) -> str:
        """Say whom the candidate, whose package is `given["package"]`, is judged against."""
        versions = self._versions()
        against = _against(versions, _digest(given.get("package")))
        self._found = next((_value(v) for v in versions if v.package == against), None)
        if self._found is None and against is not None:  # it was deleted; its bytes may remain
            self._found = {"version": None, "package": against}
        self._decided = True
        return f"champion:{against}" if against else NONE

    def load(self, wanted: type | None) -> object:
        if not self._decided:
            self.fingerprint({})
        if self._found is None:
            return None
        folder = package_folder(self._bound, str(self._found["package"]), f"the {self.name}")
        return {**self._found, "folder": folder}

    def describe(self) -> dict[str, object]:
        """Include what `fingerprint` saw: a worker must not judge by a later champion."""
        source = "charkha.models.champion:Champion"
        decided = {"found": self._found} if self._decided else {}
        return {"source": source, "model": self._model, **decided}

    @classmethod
    def revive(cls, description: dict[str, object], project: Project) -> Self:
        champion = cls(str(description["model"]), project=project)
        if "found" in description:
            found = description["found"]
            champion._found = dict(found) if isinstance(found, dict) else None
            champion._decided = True
        return champion

    @property
    def _bound(self) -> Project:
        if self._project is None:
            raise Bug(f"the {self.name} was asked for before it was bound to a project")
        return self._project

    def _versions(self) -> list[ModelVersion]:
        try:
            versions = list_versions(self._bound, self._model)
        except BackendError as e:
            remembered = snapshot(self._bound, self._model)
            so = "as it was last seen" if remembered else "taken as none, it was never seen"
            logging = import_module("logging")  # late: 8 ms, for a registry that is away only
            logging.getLogger(__name__).warning("the %s is %s: %s", self.name, so, e.what)
            return remembered or []
        keep_snapshot(self._bound, self._model, versions)
        return versions


def _digest(identity: str | None) -> str | None:
    """Return the digest in an artifact's identity, `dir:<digest>:<name>`."""
    return identity.split(":")[1] if identity and ":" in identity else identity


def _against(versions: list[ModelVersion], candidate: str | None) -> str | None:
    """Return the package to judge `candidate` against; None if there is no champion."""
    champion = next((v for v in versions if CHAMPION in v.aliases), None)
    if champion is None:
        return None
    if champion.package != candidate:
        return champion.package
    then = champion.tags.get(JUDGED_AGAINST, NONE).removeprefix("champion:")
    return None if then == "none" else then


def _value(version: ModelVersion) -> _Found:
    return {"version": version.version, "package": version.package}


if TYPE_CHECKING:
    _: Source = Champion("")
