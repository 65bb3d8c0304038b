"""Where stories look: the registry, the ledger, runs, the server's file, profiles; each read once.

What does not answer leaves its part of a story empty, and is named at the end of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from charkha.console.stories.ledgers.sqlite import SqliteLedger
from charkha.console.stories.story import Story
from charkha.data.late import late
from charkha.errors import BackendError, CharkhaError, UserError
from charkha.models import tracker
from charkha.models.packaged import folder_of
from charkha.models.registry import list_versions
from charkha.pipeline.runs import Run, read_run, run_ids
from charkha.project import ledger_address

if TYPE_CHECKING:
    from charkha.console.stories.ledgers.port import Decisions, Entry
    from charkha.data.profiles.profile import Profile
    from charkha.models.registries.port import ModelVersion
    from charkha.project import Project

_Told = TypeVar("_Told")


@dataclass(frozen=True, kw_only=True)
class Held:
    """What a server holds by its file, and since when that is so."""

    since: float  # unix seconds; the file was written then
    variants: tuple[dict[str, Any], ...]  # name, version, share, shadow


class Sources:
    """One look at a project. Reads only."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.silent: list[str] = []  # what did not answer, in words
        self._entries: dict[tuple[str, str | None], list[Entry]] = {}

    @cached_property
    def decisions(self) -> Decisions:
        """The ledger: read without a library where it is a SQLite file."""
        url = ledger_address(self.project)
        if url.startswith("sqlite:///"):
            return SqliteLedger(Path(url.removeprefix("sqlite:///")))
        anywhere = late("charkha.console.stories.ledgers.anywhere", extra="mlflow")
        return cast("Decisions", anywhere.AnyLedger(self.project))

    def entries(self, kind: str, subject: str | None = None) -> list[Entry]:
        """Return what was decided, oldest first; nothing where the ledger does not answer."""
        asked = (kind, subject)
        if asked not in self._entries:
            self._entries[asked] = self._or([], lambda: self.decisions.read(kind, subject))
        return self._entries[asked]

    def entry(self, beginning: str) -> list[Entry]:
        """Return the decisions whose id begins so."""
        return self._or([], lambda: self.decisions.read(id=beginning))

    def release_state(self, model: str) -> dict[str, Any] | None:
        """Return what the controller keeps of the newest release of a model."""
        none: dict[str, dict[str, Any]] = {}
        return self._or(none, lambda: self.decisions.states("release")).get(model)

    @cached_property
    def versions(self) -> list[ModelVersion]:
        """All versions of all models, oldest first."""
        return self._or([], lambda: list_versions(self.project))

    def version(self, model: str, number: int) -> ModelVersion | None:
        """Return a version, None where there is none."""
        return next((v for v in self.versions if (v.name, v.version) == (model, number)), None)

    @cached_property
    def run_ids(self) -> list[str]:
        """The ids of all runs here, oldest first."""
        runs = self.project.state / "runs"
        return [id for id in run_ids(self.project) if (runs / id / "journal.jsonl").exists()]

    def run(self, id: str) -> Run | None:
        """Return a run; None where its journal is not on this machine."""
        try:
            return read_run(id, self.project) if id in self.run_ids else None
        except (UserError, OSError):
            return None

    def mlflow_run(self, id: str) -> str | None:
        """Return what MLflow calls a run; None where it has none yet."""
        try:
            return tracker.read_state(self.project, id).run_id
        except (OSError, ValueError, TypeError):
            return None

    def profile(self, version: ModelVersion) -> Profile | None:
        """Return what the version was trained on, column by column."""
        try:
            with self._told():
                folder = folder_of(self.project, version)
                file = json.loads((folder / "package.json").read_text(encoding="utf-8")).get(
                    "profile"
                )
                if file is None:
                    self.silent.append(f"{version} was packaged before profiles came")
                    return None
                storing = late("charkha.data.profiles.storing", extra="tables")
                return cast(
                    "Profile",
                    storing.read_profile((folder / file).read_bytes(), f"{file} of {version}"),
                )
        except (CharkhaError, OSError):
            return None

    def held(self, model: str) -> Held | None:
        """Return what the server of a model in this project's folder holds, or held last."""
        file = self.project.state / "serving" / f"{model}.json"
        try:
            since = file.stat().st_mtime
            said = json.loads(file.read_text(encoding="utf-8"))
            return Held(since=since, variants=tuple(said["variants"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def silence(self) -> tuple[Story, ...]:
        """Return the part that names what did not answer; none where all did."""
        said = tuple(dict.fromkeys(self.silent))
        return (Story(kind="silence", id="", title="not to be had", because=said),) if said else ()

    def _or(self, otherwise: _Told, ask: Callable[[], _Told]) -> _Told:
        try:
            with self._told():
                return ask()
        except BackendError:
            return otherwise

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Remember what did not answer."""
        try:
            yield
        except CharkhaError as e:
            self.silent.append(e.what)
            raise
