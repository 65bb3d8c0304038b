"""The ledger in a SQLite file, read with SQL alone: SQLAlchemy is 25 MB that no server has to hold."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from os.path import exists
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote

from charkha.errors import Unavailable

_DECISIONS = """
    SELECT at, subject, numbers FROM decisions
    WHERE kind = :kind AND (subject = :subject OR substr(subject, 1, :length) = :start)
    ORDER BY at DESC, id DESC LIMIT :newest"""
_STATE = "SELECT value FROM states WHERE kind = :kind AND key = :key"
_Answer = TypeVar("_Answer")


class Row(NamedTuple):
    """As much of a decision as gauges are made of."""

    at: float  # unix seconds
    subject: str
    numbers: dict[str, Any]


class SqliteLedger:
    """What `charkha.ledger` and `charkha.states` keep in a file. Nothing is written or made.

    Raises:
        Unavailable: (from every method) the file cannot be read.
    """

    def __init__(self, path: str) -> None:
        self._path = path

    def read(self, kind: str, subject: str, *, newest: int) -> list[Row]:
        """Return the newest decisions, oldest first, as `Ledger.read` finds them."""
        start = f"{subject}@"
        asked = {"kind": kind, "subject": subject, "start": start, "length": len(start)}

        def ask(database: sqlite3.Connection) -> list[Row]:
            rows = database.execute(_DECISIONS, {**asked, "newest": newest}).fetchall()
            return [Row(at, about, json.loads(told)) for at, about, told in reversed(rows)]

        return self._asked(ask) or []

    def state(self, kind: str, key: str) -> dict[str, Any] | None:
        """Return a state; None where there is none."""

        def ask(database: sqlite3.Connection) -> dict[str, Any] | None:
            found = database.execute(_STATE, {"kind": kind, "key": key}).fetchone()
            value: dict[str, Any] | None = None if found is None else json.loads(found[0])
            return value

        return self._asked(ask)

    def _asked(self, ask: Callable[[sqlite3.Connection], _Answer]) -> _Answer | None:
        if not exists(self._path):  # nothing has been decided yet
            return None
        address = f"file:{quote(self._path)}?mode=ro"
        try:
            with closing(sqlite3.connect(address, uri=True, timeout=5.0)) as database:
                return ask(database)
        except sqlite3.DatabaseError as e:
            if "no such table" in str(e):  # nothing has been kept in it yet
                return None
            raise Unavailable(f"the ledger {self._path} does not answer: {e}") from e
