"""Decisions: read what the ledger has, and what controllers keep; nothing is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from charkha.console.stories.story import utc

SHORT = 12  # characters of an entry's id that are shown


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One decision, as the ledger has it."""

    id: str
    at: float  # unix seconds
    kind: str
    subject: str
    because: str
    numbers: Mapping[str, Any]
    who: str

    @property
    def when(self) -> datetime:
        """Its time, in UTC."""
        return utc(self.at)

    @property
    def short(self) -> str:
        """Return as much of the id as tells it from others."""
        return self.id[:SHORT]

    def text(self, name: str) -> str:
        """Return one of its numbers as text; "" where it has none."""
        value = self.numbers.get(name)
        return "" if value is None else str(value)


class Decisions(Protocol):
    """What stories need of a ledger.

    Raises:
        Unavailable: (from every method) it does not answer.
    """

    def read(
        self, kind: str | None = None, subject: str | None = None, id: str | None = None
    ) -> list[Entry]:
        """Return the entries, oldest first; `subject` also finds `subject@…`, `id` is how it begins."""
        ...

    def states(self, kind: str) -> dict[str, dict[str, Any]]:
        """Return what controllers keep, by its key."""
        ...
