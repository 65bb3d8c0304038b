import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from charkha.errors import Unavailable
from charkha.ledger import Decision, Ledger, open_ledger
from charkha.project import default_project


@pytest.fixture
def ledger(tmp_path: Path):
    ledger = Ledger(f"sqlite:///{tmp_path}/ledger.db")
    yield ledger
    ledger.close()


def decision(at: float = 1.5, subject: str = "prices@3", kind: str = "promotion") -> Decision:
    return Decision(
        at=at,
        kind=kind,
        subject=subject,
        because="it is better",
        numbers={"from": 2, "to": 3},
        who="ann",
    )


def test_a_decision_comes_back_as_it_was_recorded(ledger):
    ledger.record(decision())
    assert ledger.read() == [decision()]


def test_the_same_decision_twice_is_one(ledger):
    ledger.record(decision())
    ledger.record(decision())
    assert len(ledger.read()) == 1


def test_decisions_are_read_oldest_first_and_by_kind(ledger):
    ledger.record(decision(at=2))
    ledger.record(decision(at=1, kind="gate"))
    assert [d.at for d in ledger.read()] == [1, 2]
    assert [d.kind for d in ledger.read("gate")] == ["gate"]


def test_a_models_decisions_are_those_of_its_versions_and_of_no_other_model(ledger):
    for subject in ("prices@3", "prices@4", "prices-old@1", "price_@1", "pricesX@1"):
        ledger.record(decision(subject=subject))
    assert {d.subject for d in ledger.read(subject="prices")} == {"prices@3", "prices@4"}
    assert [d.subject for d in ledger.read(subject="prices@3")] == ["prices@3"]
    assert [d.subject for d in ledger.read(subject="price_")] == ["price_@1"]


def test_several_processes_may_record_at_once(tmp_path):
    code = (
        "import sys; from charkha.ledger import Decision, Ledger\n"
        f"ledger = Ledger('sqlite:///{tmp_path}/ledger.db')\n"
        "for at in range(20):\n"
        "    ledger.record(Decision(at=at, kind='gate', subject=sys.argv[1], because='', who=''))"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, f"m@{i}"]) for i in range(3)]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    ledger = open_ledger(_moved(tmp_path))
    assert len(ledger.read()) == 60
    ledger.close()


def _moved(folder: Path):
    (folder / ".charkha").mkdir()
    os.replace(folder / "ledger.db", folder / ".charkha" / "ledger.db")
    return default_project(folder)


def test_a_database_that_does_not_answer_is_unavailable(tmp_path):
    with pytest.raises(Unavailable, match=r"no/ledger\.db"):
        Ledger(f"sqlite:///{tmp_path}/no/ledger.db")


def test_a_locked_database_is_unavailable_and_keeps_what_it_had(tmp_path):
    path = tmp_path / "ledger.db"
    ledger = Ledger(f"sqlite:///{path}?timeout=0.1")
    ledger.record(decision())
    other = sqlite3.connect(path)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(Unavailable, match="locked"):
        ledger.record(decision(at=9))
    other.close()
    assert ledger.read() == [decision()]
    ledger.close()
