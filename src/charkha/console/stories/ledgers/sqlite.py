"""The ledger in a SQLite file, read with SQL: nothing is written, and no library imported."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from charkha.console.stories.ledgers.port import Entry
from charkha.errors import Unavailable

_DECISIONS = """
    SELECT id, at, kind, subject, because, numbers, who FROM decisions
    WHERE (:kind IS NULL OR kind = :kind)
      AND (:subject IS NULL OR subject = :subject OR substr(subject, 1, :long) = :subject || '@')
      AND (:id IS NULL OR substr(id, 1, :longid) = :id)
    ORDER BY at, id"""
_STATES = "SELECT key, value FROM states WHERE kind = :kind ORDER BY key"


class SqliteLedger:
    """Decisions and states in the file `.charkha/ledger.db`; one that is not there is empty."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def read(
        self, kind: str | None = None, subject: str | None = None, id: str | None = None
    ) -> list[Entry]:
        wanted = {
            "kind": kind,
            "subject": subject,
            "long": len(subject or "") + 1,
            "id": id,
            "longid": len(id or ""),
        }
        return [
            Entry(id=i, at=at, kind=k, subject=s, because=b, numbers=json.loads(n), who=w)
            for i, at, k, s, b, n, w in self._rows(_DECISIONS, wanted)
        ]

    def states(self, kind: str) -> dict[str, dict[str, Any]]:
        return {key: json.loads(value) for key, value in self._rows(_STATES, {"kind": kind})}

    def _rows(self, query: str, wanted: dict[str, Any]) -> list[tuple[Any, ...]]:
        if not self._file.exists():
            return []
        try:
            with closing(_connect(self._file)) as database:
                return database.execute(query, wanted).fetchall()
        except sqlite3.DatabaseError as e:
            if "no such table" in str(e):  # nobody has decided anything yet
                return []
            raise Unavailable(
                f"the ledger {self._file} does not answer: {e}",
                fix="see that it can be read, and that nothing has locked it for long",
            ) from e


def _connect(file: Path) -> sqlite3.Connection:
    """Open the file to read; "rw" all the same, as a writer's `kill -9` leaves work to undo."""
    escaped = str(file).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
    database = sqlite3.connect(f"file:{escaped}?mode=rw", uri=True, timeout=5)
    database.execute("PRAGMA query_only = 1")
    return database


if TYPE_CHECKING:
    from charkha.console.stories.ledgers.port import Decisions

    _: Decisions = SqliteLedger(Path())
