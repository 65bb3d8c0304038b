"""A judged package becomes a model version: once, however often and by whomever it is tried."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple, Protocol, cast

from charkha.ledger import Decision, open_ledger
from charkha.models import aliasing
from charkha.models.champion import JUDGED_AGAINST
from charkha.models.registries.port import PACKAGE, ModelVersion
from charkha.models.registry import keep_snapshot
from charkha.pipeline.journal import open_lock

if TYPE_CHECKING:
    from charkha.models.recording import Judged, Opened
    from charkha.project import Project

_DESCRIPTION = 5000  # characters that MLflow's tables have room for


class Registered(NamedTuple):
    """What became of a package."""

    name: str
    version: int
    alias: str | None  # "champion" | "challenger" | "previous"
    step: str  # of the gate
    because: str


class WritableRegistry(Protocol):
    """The part of `charkha.models.mlflow.MlflowRegistry` that is needed here."""

    def versions(self, name: str | None = None) -> list[ModelVersion]:
        """Return the versions, oldest first."""
        ...

    def add_version(
        self, name: str, model_id: str, run_id: str, tags: Mapping[str, str], description: str
    ) -> int:
        """Make a version and return its number."""
        ...

    def remove_version(self, version: ModelVersion) -> None:
        """Delete a version."""
        ...

    def tag(self, version: ModelVersion, tags: Mapping[str, str]) -> None:
        """Set tags."""
        ...

    def move(self, name: str, moves: Sequence[aliasing.Move]) -> None:
        """Move aliases."""
        ...


def register(
    project: Project,
    registry: WritableRegistry,
    opened: Opened,
    judged: Judged,
    log_model: Callable[[], tuple[str, str]],
) -> Registered:
    """Make the package a version, or find the one that it is already, and move aliases.

    Args:
        project: whose lock and ledger are used.
        registry: where the version goes.
        opened: the run, with its data and parameters.
        judged: the package and its verdict.
        log_model: makes the package a model in MLflow; returns its id and the run's. Called only
            for a package that is no version yet.
    """
    name = str(judged.verdict["model"])
    with _alone(project, name):
        version = _find(registry, name, judged.package)
        if version is None:
            version = _add(registry, name, opened, judged, log_model)
        elif version.tags.get(aliasing.JUDGED_IN, "") <= opened.run and not _is_same(judged):
            registry.tag(version, _verdict_tags(opened, judged))
        versions = registry.versions(name)
        version = next(v for v in versions if v.version == version.version)
        plan = aliasing.on_registration(versions, version)
        registry.move(name, plan.moves)
        versions = registry.versions(name)
        keep_snapshot(project, name, versions)
    version = next(v for v in versions if v.version == version.version)
    _remember(project, opened, judged, version)
    alias = version.aliases[0] if version.aliases else None
    return Registered(name, version.version, alias, judged.step, plan.because)


def _add(
    registry: WritableRegistry,
    name: str,
    opened: Opened,
    judged: Judged,
    log_model: Callable[[], tuple[str, str]],
) -> ModelVersion:
    model_id, run_id = log_model()
    tags = {
        PACKAGE: judged.package,
        "charkha.run": opened.run,
        "charkha.data": " ".join(f"{use.name}={_bytes(use.digest)}" for use in opened.datasets),
        "charkha.params": json.dumps(opened.params, sort_keys=True),
        "charkha.metrics": json.dumps(judged.verdict.get("metrics", {}), sort_keys=True),
        "charkha.commit": opened.tags.get("mlflow.source.git.commit", ""),
        **_verdict_tags(opened, judged),
    }
    kept = {key: value for key, value in tags.items() if value}
    made = registry.add_version(name, model_id, run_id, kept, _description(judged))
    same = [v for v in registry.versions(name) if v.package == judged.package]
    for twin in same[1:]:  # another machine was as quick: the older one stays, for both
        if twin.version == made:
            registry.remove_version(twin)
    return same[0]


def _bytes(version: str) -> str:
    """Return a dataset's version without the digest of its checks: `md5:…`."""
    return version.partition(" ")[0]


def _find(registry: WritableRegistry, name: str, package: str) -> ModelVersion | None:
    return next((v for v in registry.versions(name) if v.package == package), None)


def _verdict_tags(opened: Opened, judged: Judged) -> dict[str, str]:
    """Return what the latest verdict says about the version."""
    return {
        aliasing.GATE: "passed" if judged.verdict["passed"] else "refused",
        aliasing.JUDGED_IN: opened.run,
        JUDGED_AGAINST: str(judged.verdict["judged_against"]),
        "charkha.because": _because(judged),
    }


def _is_same(judged: Judged) -> bool:
    """Whether the verdict only says that this is the champion itself."""
    return bool(judged.verdict.get("same"))


def _because(judged: Judged) -> str:
    reasons = cast("Sequence[str]", judged.verdict["because"])
    return "; ".join(reasons)[:_DESCRIPTION]


def _description(judged: Judged) -> str:
    card = judged.folder / "card.md"
    text = card.read_text(encoding="utf-8") if card.exists() else _because(judged)
    if len(text) <= _DESCRIPTION:
        return text
    more = "\n\n… (the whole card: charkha/card.md among the files of this model)"
    return text[: _DESCRIPTION - len(more)] + more


def _remember(project: Project, opened: Opened, judged: Judged, version: ModelVersion) -> None:
    """Record the gate's decision; its time is the journal's, so that twice is once."""
    ledger = open_ledger(project)
    try:
        ledger.record(
            Decision(
                at=judged.at,
                kind="gate",
                subject=str(version),
                because=_because(judged),
                numbers={"verdict": dict(judged.verdict), "run": opened.run},
                who=f"run {opened.run}",
            )
        )
    finally:
        ledger.close()


@contextmanager
def _alone(project: Project, name: str) -> Iterator[None]:
    """Keep other trackers on this machine from registering the same model meanwhile."""
    folder = project.state / "registry"
    folder.mkdir(parents=True, exist_ok=True)
    lock = open_lock(folder / f"{name}.lock")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
