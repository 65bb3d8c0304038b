"""What controllers keep between two looks: states with a revision, and leases, beside the ledger.

A state is written only by who has read its newest revision, so two controllers never decide on the
same one, whatever their clocks say. A lease keeps the second one from trying. Plain UPDATE … WHERE,
which SQLite and PostgreSQL carry out one after the other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from charkha.database import open_engine, translated

_tables = sa.MetaData()
_states = sa.Table(
    "states",
    _tables,
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("value", sa.Text, nullable=False),  # JSON
)
_leases = sa.Table(
    "leases",
    _tables,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("until", sa.Float, nullable=False),  # unix seconds
)

_AHEAD = 10  # times the length of a lease: more than the clocks of two machines lie apart


class Kept(NamedTuple):
    """A state as it was read."""

    key: str
    revision: int
    value: dict[str, Any]


class States:
    """States and leases in a database. Safe between processes.

    Raises:
        Unavailable: (from every method) the database does not answer or can not be written.
        UserError: (from every method) it lets this user do nothing.
    """

    def __init__(self, url: str) -> None:
        self._engine = open_engine(url, _tables.sorted_tables)

    def read(self, kind: str, key: str) -> Kept | None:
        """Return a state, or None where there is none."""
        return next((kept for kept in self.all(kind) if kept.key == key), None)

    def all(self, kind: str) -> list[Kept]:
        """Return all states of a kind, by their keys."""
        query = sa.select(_states).where(_states.c.kind == kind)
        with translated(self._engine), self._engine.connect() as connection:
            rows = connection.execute(query).mappings().all()
        kept = [Kept(row["key"], row["revision"], json.loads(row["value"])) for row in rows]
        return sorted(kept, key=lambda each: each.key)  # each database sorts texts its own way

    def write(self, kind: str, key: str, value: Mapping[str, Any], *, after: int) -> bool:
        """Keep a state whose newest revision is `after` (0: there is none); return whether it was."""
        text = json.dumps(value, sort_keys=True)
        if after == 0:
            row = {"kind": kind, "key": key, "revision": 1, "value": text}
            return self._insert(_states.insert().values(row))
        where = (_states.c.kind == kind) & (_states.c.key == key) & (_states.c.revision == after)
        return (
            self._execute(_states.update().where(where).values(revision=after + 1, value=text)) == 1
        )

    def take(self, lease: str, owner: str, *, now: float, for_s: float) -> bool:
        """Take or renew a lease; return whether `owner` has it until `now + for_s`.

        One that ends much later was taken by a clock that went back since: it is over.
        """
        over = (_leases.c.until <= now) | (_leases.c.until > now + _AHEAD * for_s)
        free = (_leases.c.owner == owner) | over
        until = now + for_s
        update = _leases.update().where((_leases.c.name == lease) & free)
        if self._execute(update.values(owner=owner, until=until)):
            return True
        return self._insert(_leases.insert().values(name=lease, owner=owner, until=until))

    def give_back(self, lease: str, owner: str) -> None:
        """End a lease, if `owner` has it."""
        where = (_leases.c.name == lease) & (_leases.c.owner == owner)
        self._execute(_leases.delete().where(where))

    def close(self) -> None:
        """Give the connections back."""
        self._engine.dispose()

    def _insert(self, statement: sa.Insert) -> bool:
        try:
            self._execute(statement)
        except IntegrityError:  # somebody else was first
            return False
        return True

    def _execute(self, statement: sa.Executable) -> int:
        with translated(self._engine), self._engine.begin() as connection:
            return connection.execute(statement).rowcount
