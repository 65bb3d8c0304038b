"""What the platform remembers: every decision with its reason, its numbers and who took it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.schema import CreateIndex, CreateTable

from charkha.errors import Unavailable

if TYPE_CHECKING:
    from charkha.project import Project

_decisions = sa.Table(
    "decisions",
    sa.MetaData(),
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("at", sa.Float, nullable=False, index=True),  # unix seconds
    sa.Column("kind", sa.String(32), nullable=False),
    sa.Column("subject", sa.String(300), nullable=False),
    sa.Column("because", sa.Text, nullable=False),
    sa.Column("numbers", sa.Text, nullable=False),  # JSON
    sa.Column("who", sa.String(100), nullable=False),
)


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Somebody or something decided; `subject` is what about (`house-prices@3`)."""

    at: float  # unix seconds
    kind: str  # "gate" | "promotion" | "rollback" | "drift"
    subject: str
    because: str
    numbers: Mapping[str, object] = field(default_factory=dict)  # what JSON can hold
    who: str

    @property
    def id(self) -> str:
        """The same for the same decision, so that recording one again changes nothing."""
        said = [self.at, self.kind, self.subject, self.because, self.who]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()


class Ledger:
    """Decisions in a database; its table is made at the first use. Safe between processes.

    Raises:
        Unavailable: (from every method) the database does not answer or can not be written.
    """

    def __init__(self, url: str) -> None:
        self._engine = sa.create_engine(url)
        try:
            with self._engine.begin() as connection:
                # not create_all: it looks first, and another process may come in between
                connection.execute(CreateTable(_decisions, if_not_exists=True))
                for index in _decisions.indexes:
                    connection.execute(CreateIndex(index, if_not_exists=True))
        except OperationalError as e:
            raise _unavailable(self._engine, e) from e

    def record(self, decision: Decision) -> None:
        """Keep the decision. Recording the same one again changes nothing."""
        row = {
            "id": decision.id,
            "at": decision.at,
            "kind": decision.kind,
            "subject": decision.subject,
            "because": decision.because,
            "numbers": json.dumps(decision.numbers, sort_keys=True),
            "who": decision.who,
        }
        try:
            with self._engine.begin() as connection:
                connection.execute(_decisions.insert(), row)
        except IntegrityError:
            return  # its id is there already
        except OperationalError as e:
            raise _unavailable(self._engine, e) from e

    def read(self, kind: str | None = None, subject: str | None = None) -> list[Decision]:
        """Return the decisions, oldest first; `subject` also finds `subject@…`."""
        query = sa.select(_decisions).order_by(_decisions.c.at, _decisions.c.id)
        if kind is not None:
            query = query.where(_decisions.c.kind == kind)
        if subject is not None:
            about = _decisions.c.subject
            query = query.where(
                (about == subject) | about.startswith(f"{subject}@", autoescape=True)
            )
        try:
            with self._engine.connect() as connection:
                rows = connection.execute(query).mappings().all()
        except OperationalError as e:
            raise _unavailable(self._engine, e) from e
        return [_decision(row) for row in rows]

    def close(self) -> None:
        """Give the connections back."""
        self._engine.dispose()


def open_ledger(project: Project) -> Ledger:
    """Open the ledger of the project, `.charkha/ledger.db`."""
    return Ledger(ledger_url(project))


def ledger_url(project: Project) -> str:
    """Return where the ledger of the project is; its folder is made."""
    project.state.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{project.state / 'ledger.db'}"


def _decision(row: sa.RowMapping) -> Decision:
    return Decision(
        at=row["at"],
        kind=row["kind"],
        subject=row["subject"],
        because=row["because"],
        numbers=json.loads(row["numbers"]),
        who=row["who"],
    )


def _unavailable(engine: sa.Engine, error: OperationalError) -> Unavailable:
    return Unavailable(
        f"the ledger {engine.url.render_as_string(hide_password=True)} does not answer: {error.orig}",
        fix="see that its folder can be written and has space",
    )
