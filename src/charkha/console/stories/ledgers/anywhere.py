"""The ledger wherever it is, by the reader that every room uses: for one that is no SQLite file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from charkha.console.stories.ledgers.port import Entry
from charkha.ledger import ledger_url, open_ledger
from charkha.states import States

if TYPE_CHECKING:
    from charkha.project import Project


class AnyLedger:
    """Decisions and states of a project."""

    def __init__(self, project: Project) -> None:
        self._project = project

    def read(
        self, kind: str | None = None, subject: str | None = None, id: str | None = None
    ) -> list[Entry]:
        ledger = open_ledger(self._project)
        try:
            found = ledger.read(kind, subject)
        finally:
            ledger.close()
        return [
            Entry(
                id=d.id,
                at=d.at,
                kind=d.kind,
                subject=d.subject,
                because=d.because,
                numbers=d.numbers,
                who=d.who,
            )
            for d in found
            if id is None or d.id.startswith(id)
        ]

    def states(self, kind: str) -> dict[str, dict[str, Any]]:
        states = States(ledger_url(self._project))
        try:
            return {kept.key: kept.value for kept in states.all(kind)}
        finally:
            states.close()


if TYPE_CHECKING:
    from charkha.console.stories.ledgers.port import Decisions

    _: Decisions = AnyLedger(None)  # type: ignore[arg-type]  # for the type alone
