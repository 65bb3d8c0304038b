"""What the platform remembers: every decision with its reason, its numbers and who took it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from getpass import getuser
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from charkha.database import open_engine, shown, translated
from charkha.errors import UserError
from charkha.project import Project, ledger_address

_FILE = "sqlite:///"
_decisions = sa.Table(
    "decisions",
    sa.MetaData(),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("at", sa.Float, nullable=False, index=True),  # unix seconds
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("because", sa.Text, nullable=False),
    sa.Column("numbers", sa.Text, nullable=False),  # JSON
    sa.Column("who", sa.Text, nullable=False),
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
        UserError: (from every method) it lets this user do nothing.
    """

    def __init__(self, url: str) -> None:
        self._engine = open_engine(url, [_decisions])

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
            with translated(self._engine), self._engine.begin() as connection:
                connection.execute(_decisions.insert(), row)
        except IntegrityError:
            return  # its id is there already

    def read(
        self, kind: str | None = None, subject: str | None = None, *, newest: int | None = None
    ) -> list[Decision]:
        """Return the decisions, oldest first; `subject` also finds `subject@…`.

        Args:
            kind: of the decisions.
            subject: that they are about.
            newest: only so many, the last ones.
        """
        query = sa.select(_decisions).order_by(_decisions.c.at, _decisions.c.id)
        if newest is not None:
            last = (_decisions.c.at.desc(), _decisions.c.id.desc())
            query = query.order_by(None).order_by(*last).limit(newest)
        if kind is not None:
            query = query.where(_decisions.c.kind == kind)
        if subject is not None:
            about, start = _decisions.c.subject, f"{subject}@"
            begins = sa.func.substr(about, 1, len(start)) == start  # LIKE of SQLite ignores case
            query = query.where((about == subject) | begins)
        with translated(self._engine), self._engine.connect() as connection:
            rows = connection.execute(query).mappings().all()
        return [_decision(row) for row in (rows if newest is None else reversed(rows))]

    @property
    def place(self) -> str:
        """Where it is, without a password."""
        return shown(self._engine.url)

    def close(self) -> None:
        """Give the connections back."""
        self._engine.dispose()


def who_acts() -> str:
    """Return the name of the user, or the number of one without a name, as containers have them."""
    try:
        return getuser()
    except (KeyError, OSError):  # KeyError until Python 3.12
        return str(os.getuid())


def open_ledger(project: Project) -> Ledger:
    """Open the ledger of the project, where `[ledger] url` says."""
    return Ledger(ledger_url(project))


def ledger_url(project: Project) -> str:
    """Return the address of the project's ledger, password included; a file's folder is made.

    Raises:
        ProjectError: it is a reference to something that is not there, or that is no address.
        UserError: the folder cannot be made.
    """
    url = ledger_address(project)
    if url.startswith(_FILE):
        folder = Path(url.removeprefix(_FILE).partition("?")[0]).parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise UserError(
                f"the folder of the ledger, {folder}, cannot be made: {e.strerror}",
                fix="correct [ledger] url in charkha.toml, or the permissions of the folder above",
            ) from e
    return url


def _decision(row: sa.RowMapping) -> Decision:
    return Decision(
        at=row["at"],
        kind=row["kind"],
        subject=row["subject"],
        because=row["because"],
        numbers=json.loads(row["numbers"]),
        who=row["who"],
    )
