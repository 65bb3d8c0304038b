"""The ledger's database: opened, its tables made, and what it refuses told in our words.

SQLite and PostgreSQL. Whatever is written is one statement, which is carried out or not; nobody holds a
lock between two of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    IntegrityError,
    InterfaceError,
    OperationalError,
    ProgrammingError,
)
from sqlalchemy.schema import CreateIndex, CreateTable

from charkha.errors import BackendError, CharkhaError, MissingExtra, Unavailable, UserError

_BUSY_S = 15.0  # that a writer of SQLite waits for another one
_CONNECT_S = 10  # until a server that says nothing counts as down

# What PostgreSQL says while it lets nobody in, and what to do; it tells no SQLSTATE at that time.
_NOT_LET_IN = (
    ("password authentication failed", "correct the password that [ledger] url refers to"),
    ("no password supplied", 'url = "env:NAME" in [ledger], with the password in that address'),
    ("role ", "createuser, or correct the user in [ledger] url"),
    ("database ", "createdb, or correct the database in [ledger] url"),
    ("pg_hba.conf", "let pg_hba.conf of the server admit this user from this machine"),
)
_MAY_NOT, _READ_ONLY = "42501", "25006"  # SQLSTATE (PostgreSQL's manual, appendix A)


def open_engine(url: str, tables: Iterable[sa.Table]) -> sa.Engine:
    """Return an engine for a database in which these tables are.

    Raises:
        UserError: this is no address of a database, or the database lets this user do nothing.
        MissingExtra: the driver is not installed.
        Unavailable: it does not answer, or cannot be written.
    """
    try:
        engine = _engine(sa.make_url(url))
    except ModuleNotFoundError as e:
        raise MissingExtra(e.name or "psycopg", "postgresql") from e
    except (ArgumentError, ValueError) as e:  # ValueError: a port that is no number
        raise UserError(
            "the ledger's address cannot be read",
            fix='[ledger] url = "sqlite:///FILE" or "postgresql://HOST/DATABASE"',
        ) from e
    try:
        with translated(engine):
            for table in tables:
                _make(engine, table)
    except BaseException:
        engine.dispose()
        raise
    return engine


@contextmanager
def translated(engine: sa.Engine) -> Iterator[None]:
    """Turn what the database refuses into our errors; a row that is there already stays SQLAlchemy's.

    Raises:
        UserError: somebody has to let this user in, or make the database.
        Unavailable: it does not answer, or cannot be written now.
        BackendError: it refused something else.
    """
    try:
        yield
    except IntegrityError:
        raise
    except DBAPIError as e:
        raise _ours(engine.url, e) from e


def shown(url: sa.URL) -> str:
    """Return an address without its password, wherever that stands."""
    return url.set(query={}).render_as_string(hide_password=True)


def _engine(url: sa.URL) -> sa.Engine:
    if url.get_backend_name() == "sqlite":
        given = {} if "timeout" in url.query else {"timeout": _BUSY_S}
        return sa.create_engine(url, connect_args=given)
    limit: dict[str, Any] = (
        {} if "connect_timeout" in url.query else {"connect_timeout": _CONNECT_S}
    )
    # AUTOCOMMIT: a controller that stops between two statements has nothing locked. The ping finds
    # connections that a restart of the server has ended.
    return sa.create_engine(
        url, connect_args=limit, isolation_level="AUTOCOMMIT", pool_pre_ping=True
    )


def _make(engine: sa.Engine, table: sa.Table) -> None:
    """Make a table unless it is there: PostgreSQL wants a right to it even then, SQLite does not."""
    if sa.inspect(engine).has_table(table.name):
        return
    statements: list[sa.Executable] = [CreateTable(table, if_not_exists=True)]
    statements += [CreateIndex(index, if_not_exists=True) for index in table.indexes]
    for statement in statements:
        try:
            with engine.begin() as connection:
                connection.execute(statement)
        except (IntegrityError, ProgrammingError):
            # PostgreSQL's IF NOT EXISTS looks first: another process may have come in between.
            if not sa.inspect(engine).has_table(table.name):
                raise


def _ours(url: sa.URL, error: DBAPIError) -> CharkhaError:
    said = " ".join(str(error.orig).split())
    refused = f"the ledger {shown(url)} refused: {said}"
    silent = f"the ledger {shown(url)} does not answer: {said}"
    if url.get_backend_name() == "sqlite":
        return _of_sqlite(silent, error)
    state = getattr(error.orig, "sqlstate", None)
    if state == _READ_ONLY:
        return Unavailable(refused, fix="let [ledger] url name the server that can be written")
    if state == _MAY_NOT:
        return UserError(refused, fix="GRANT CREATE, USAGE ON SCHEMA public TO the user, or owner")
    if state is None and "FATAL:" in said:
        reason = said.partition("FATAL:")[2].strip()
        for start, fix in _NOT_LET_IN:
            if start in reason:
                return UserError(refused, fix=fix)
    if isinstance(error, OperationalError | InterfaceError):
        return Unavailable(silent, fix="start PostgreSQL, or correct [ledger] url in charkha.toml")
    return BackendError(refused)


def _of_sqlite(silent: str, error: DBAPIError) -> CharkhaError:
    if "not a database" in str(error.orig):
        return UserError(
            f"{silent}: it is another file",
            fix="set [ledger] url to another one, or move this one away",
        )
    if "locked" in str(error.orig):
        return Unavailable(silent, fix="see which process holds it: fuser FILE, or lsof FILE")
    return Unavailable(silent, fix="see that its folder can be written and has space")
