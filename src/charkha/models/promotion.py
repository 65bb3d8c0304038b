"""Promote and roll back: plan the move, carry it out in the registry, keep the reason."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

from charkha.errors import UserError
from charkha.ledger import Decision, open_ledger, who_acts
from charkha.models import aliasing
from charkha.models.registry import CHAMPION, PREVIOUS, find_version, list_versions

if TYPE_CHECKING:
    from charkha.models.aliasing import Plan
    from charkha.models.registries.port import ModelVersion
    from charkha.project import Project


# Entered with what is being done, while aliases are moved: `show.working` of the command line.
Working = Callable[[str], AbstractContextManager[None]]


class Moved(NamedTuple):
    """What became of a promotion or a rollback."""

    champion: ModelVersion
    before: ModelVersion | None  # the champion until now; None if there was none
    changed: bool
    because: str


def promote(
    project: Project,
    reference: str,
    because: str | None = None,
    *,
    force: bool = False,
    working: Working | None = None,
) -> Moved:
    """Make the version champion, as `reference` names it (`house-prices@3`, `…@challenger`).

    Doing it again changes nothing.

    Raises:
        Refused: the gate refused that version, and `force` is not given.
        UserError: there is no such version, or `force` comes without a reason.
        Unavailable: the registry did not answer.
    """
    if force and not because:
        raise UserError("--force needs a reason", fix='add --because "…"')
    version = find_version(project, reference)
    plan = aliasing.on_promotion(list_versions(project, version.name), version, force=force)
    moving = working(f"promoting {version} in MLflow") if working else nullcontext()
    return _carry_out(project, "promotion", version.name, plan, because, moving)


def roll_back(
    project: Project,
    name: str,
    because: str | None = None,
    *,
    to: int | None = None,
    working: Working | None = None,
) -> Moved:
    """Make the previous champion champion again; with `to`, doing it again changes nothing.

    Raises:
        Refused: there is no previous one (it has been rolled back already, or never promoted).
        Unavailable: the registry did not answer.
    """
    versions = list_versions(project, name) or [find_version(project, name)]
    plan = aliasing.on_rollback(name, versions, to=to)
    moving = working(f"rolling {name} back in MLflow") if working else nullcontext()
    return _carry_out(project, "rollback", name, plan, because, moving)


def _carry_out(
    project: Project,
    kind: str,
    name: str,
    plan: Plan,
    because: str | None,
    moving: AbstractContextManager[None],
) -> Moved:
    before = _holder(project, name, CHAMPION)
    if plan.moves:
        with moving:
            mlflow = import_module("charkha.models.mlflow")  # late: 5 s
            mlflow.MlflowRegistry(project.tracking.uri).move(name, plan.moves)
    champion = _holder(project, name, CHAMPION)
    if champion is None:
        raise UserError(
            f"{name} has lost its champion meanwhile", fix=f"charkha models list {name}"
        )
    reason = because or plan.because
    _record(project, kind, champion, before, reason, moved=bool(plan.moves))
    return Moved(champion, before, champion != before, reason)


def _record(
    project: Project,
    kind: str,
    champion: ModelVersion,
    before: ModelVersion | None,
    because: str,
    *,
    moved: bool,
) -> None:
    """Keep the reason, unless this very change is what the ledger says last.

    Asking the ledger, and not whether something moved, repairs a move that was cut off between the
    registry and here. Of a champion that became it by its registration there is nothing to say.
    """
    ledger = open_ledger(project)
    try:
        told = [
            d for d in ledger.read(subject=champion.name) if d.kind in ("promotion", "rollback")
        ]
        if told and told[-1].subject == str(champion):
            return
        previous = _holder(project, champion.name, PREVIOUS)  # a registration names none
        if not (moved or told or previous):
            return
        numbers = {"from": _source(before, champion, previous, told), "to": champion.version}
        ledger.record(
            Decision(
                at=time.time(),
                kind=kind,
                subject=str(champion),
                because=because,
                numbers=numbers,
                who=who_acts(),
            )
        )
    finally:
        ledger.close()


def _source(
    before: ModelVersion | None,
    champion: ModelVersion,
    previous: ModelVersion | None,
    told: Sequence[Decision],
) -> object:
    """Return the version that was champion before, also where it was moved before this call."""
    if before is not None and before.version != champion.version:
        return before.version
    if previous is not None:
        return previous.version
    return told[-1].numbers.get("to") if told else None


def _holder(project: Project, name: str, alias: str) -> ModelVersion | None:
    versions = list_versions(project, name)
    return next((version for version in versions if alias in version.aliases), None)
