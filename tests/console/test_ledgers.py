"""Readers of the ledger for stories."""

import sqlite3

import pytest

from charkha.console.stories.ledgers.anywhere import AnyLedger
from charkha.console.stories.ledgers.contract import DecisionsContract
from charkha.console.stories.ledgers.sqlite import SqliteLedger
from charkha.errors import Unavailable


@pytest.fixture
def written(world):
    world.decide(
        "gate", "a@1", {"verdict": {"passed": True}}, at=1.0, because="it is better", who="run 7"
    )
    for at, subject in ((2.0, "a@1"), (3.0, "a@12"), (4.0, "ab@1")):
        world.decide("drift", subject, at=at)
    world.keep("release", "a", {"id": "r1"})
    return world


class TestSqlite(DecisionsContract):
    @pytest.fixture
    def decisions(self, written):
        return SqliteLedger(written.project.state / "ledger.db")


class TestAnywhere(DecisionsContract):
    @pytest.fixture
    def decisions(self, written):
        return AnyLedger(written.project)


def test_a_ledger_that_was_never_written_is_empty_and_is_not_made(tmp_path):
    ledger = SqliteLedger(tmp_path / "none" / "ledger.db")
    assert (ledger.read(), ledger.states("release")) == ([], {})
    assert list(tmp_path.iterdir()) == []


def test_one_without_its_tables_is_empty(tmp_path):
    sqlite3.connect(tmp_path / "ledger.db").close()
    (tmp_path / "ledger.db").touch()
    assert SqliteLedger(tmp_path / "ledger.db").read() == []


def test_what_is_no_database_does_not_answer(tmp_path):
    (tmp_path / "ledger.db").write_bytes(b"not a database, and long enough to be seen as none" * 9)
    with pytest.raises(Unavailable, match="does not answer"):
        SqliteLedger(tmp_path / "ledger.db").read()


def test_reading_changes_no_byte(written):
    file = written.project.state / "ledger.db"
    before = file.read_bytes()
    SqliteLedger(file).read()
    assert file.read_bytes() == before
