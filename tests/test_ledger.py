"""The ledger, in SQLite and in PostgreSQL, and what it says where its database refuses."""

import os
import pwd
import sqlite3
import subprocess
import sys

import pytest

from charkha.errors import ProjectError, Unavailable, UserError
from charkha.ledger import Decision, Ledger, open_ledger, who_acts
from charkha.project import open_project
from charkha.states import States


@pytest.fixture
def ledger(database):
    ledger = Ledger(database)
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
    for subject in ("prices@3", "prices@4", "prices-old@1", "price_@1", "pricesX@1", "Prices@1"):
        ledger.record(decision(subject=subject))
    assert {d.subject for d in ledger.read(subject="prices")} == {"prices@3", "prices@4"}
    assert [d.subject for d in ledger.read(subject="prices@3")] == ["prices@3"]
    assert [d.subject for d in ledger.read(subject="price_")] == ["price_@1"]


WRITER = """
import sys
from charkha.ledger import Decision, Ledger

ledger = Ledger(sys.argv[2])
for at in range(20):
    for subject in (sys.argv[1], "the same"):
        ledger.record(Decision(at=at, kind="gate", subject=subject, because="", who=""))
"""


def test_several_processes_may_record_at_once(database):
    command = [sys.executable, "-c", WRITER]
    writers = [subprocess.Popen([*command, f"m@{i}", database]) for i in range(3)]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    ledger = Ledger(database)
    assert len(ledger.read()) == 80
    ledger.close()


def test_the_settings_say_where_it_is(tmp_path, database, monkeypatch):
    monkeypatch.setenv("LEDGER", database)
    (tmp_path / "charkha.toml").write_text('[ledger]\nurl = "env:LEDGER"\n')
    ledger = open_ledger(open_project(tmp_path))
    ledger.record(decision())
    ledger.close()
    again = Ledger(database)
    assert again.read() == [decision()]
    again.close()
    assert not (tmp_path / ".charkha").exists()


@pytest.mark.parametrize(
    ("url", "folder"), [(None, ".charkha"), ("sqlite:///of/the/team.db", "of/the")]
)
def test_a_file_of_sqlite_is_made_with_its_folder(tmp_path, url, folder):
    (tmp_path / "charkha.toml").write_text(f'[ledger]\nurl = "{url}"\n' if url else "")
    open_ledger(open_project(tmp_path)).close()
    assert list((tmp_path / folder).glob("*.db"))


def test_a_reference_that_leads_nowhere_says_which_setting_wants_it(tmp_path, monkeypatch):
    (tmp_path / "charkha.toml").write_text('[ledger]\nurl = "env:LEDGER"\n')
    with pytest.raises(ProjectError, match=r"charkha\.toml:2.*LEDGER is not set.*\[ledger\] url"):
        open_ledger(open_project(tmp_path))
    monkeypatch.setenv("LEDGER", "mysql://me:hunter2@db")
    with pytest.raises(ProjectError, match="env:LEDGER is no address") as caught:
        open_ledger(open_project(tmp_path))
    assert "hunter2" not in str(caught.value)


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


def test_a_file_that_is_no_database_is_named(tmp_path):
    (tmp_path / "ledger.db").write_text("no database" * 100)
    with pytest.raises(UserError, match=r"ledger\.db.*another file"):
        Ledger(f"sqlite:///{tmp_path}/ledger.db")


def test_who_finds_the_file_locked_waits_for_it(tmp_path):
    ledger = Ledger(f"sqlite:///{tmp_path}/ledger.db")
    with ledger._engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() >= 10_000
    ledger.close()


@pytest.mark.parametrize(
    ("wrong", "kind", "fix"),
    [
        ({"password": "hunter2"}, UserError, "correct the password"),
        ({"user": "nobody"}, UserError, "correct the password"),  # it does not tell who is known
        ({"database": "nowhere"}, UserError, "createdb"),
        ({"port": 1}, Unavailable, "start PostgreSQL"),
    ],
)
def test_what_postgresql_refuses_says_what_to_do_and_never_the_password(
    postgresql, wrong, kind, fix
):
    url = postgresql.url(**{"database": "postgres", **wrong})
    with pytest.raises(kind) as caught:
        Ledger(url)
    assert type(caught.value) is kind
    assert caught.value.fix.startswith(fix)
    for password in ("hunter2", postgresql.password):
        assert password not in str(caught.value)
    assert "postgresql://" in str(caught.value)


def test_a_password_that_stands_among_the_options_is_not_shown_either(postgresql):
    url = f"postgresql://127.0.0.1:{postgresql.port}/postgres?user=charkha&password=hunter2"
    with pytest.raises(UserError, match="password authentication failed") as caught:
        States(url)
    assert "hunter2" not in str(caught.value)


def test_a_database_that_can_only_be_read_is_read_and_says_so_when_written(postgresql):
    url = postgresql.make_database()
    Ledger(url).close()
    name = url.rpartition("/")[2]
    postgresql.execute("postgres", f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    ledger = Ledger(url)
    assert ledger.read() == []
    with pytest.raises(Unavailable, match="read-only transaction") as caught:
        ledger.record(decision())
    assert "can be written" in caught.value.fix
    ledger.close()


def test_a_user_who_may_make_no_tables_is_told_what_to_grant(postgresql):
    url = postgresql.make_database()
    name = url.rpartition("/")[2]
    guest = postgresql.url(name, user=f"guest_{name}")
    postgresql.execute(name, f"CREATE USER guest_{name} PASSWORD '{postgresql.password}'")
    with pytest.raises(UserError, match="permission denied") as caught:
        Ledger(guest)
    assert "GRANT CREATE" in caught.value.fix
    Ledger(url).close()  # its owner makes them
    postgresql.execute(name, f"GRANT SELECT, INSERT ON decisions TO guest_{name}")
    ledger = Ledger(guest)
    ledger.record(decision())
    assert ledger.read() == [decision()]
    ledger.close()


def test_after_a_restart_of_the_server_it_goes_on(postgresql):
    ledger = Ledger(postgresql.make_database())
    ledger.record(decision())
    postgresql.stop()
    with pytest.raises(Unavailable, match="does not answer"):
        ledger.read()
    postgresql.start()
    assert ledger.read() == [decision()]
    ledger.close()


def test_without_the_driver_its_install_line_is_told(tmp_path):
    code = (
        "import sys; sys.modules['psycopg'] = None\n"
        "from charkha.ledger import Ledger\n"
        "from charkha.models.registry import _open, _READERS\n"
        "from charkha.errors import MissingExtra\n"
        "for made in (Ledger, lambda url: _open(_READERS['postgresql'], url)):\n"
        "    try:\n"
        "        made('postgresql://127.0.0.1:1/none')\n"
        "    except MissingExtra as e:\n"
        "        print(e.fix)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines() == ["pip install 'charkha[postgresql]'"] * 2, done.stderr


@pytest.mark.parametrize("url", ["sqlite:///taken/ledger.db", "sqlite:////proc/no/ledger.db"])
def test_a_folder_that_cannot_be_made_is_told(tmp_path, url):
    (tmp_path / "taken").write_text("")
    (tmp_path / "charkha.toml").write_text(f'[ledger]\nurl = "{url}"\n')
    with pytest.raises(UserError, match="the folder of the ledger, .* cannot be made"):
        open_ledger(open_project(tmp_path))


def test_a_port_that_is_no_number_is_told():
    with pytest.raises(UserError, match="address cannot be read"):
        Ledger("postgresql://host:port/database")


def test_a_user_without_a_name_is_told_by_its_number(monkeypatch):
    def nobody(uid):
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    assert who_acts() == str(os.getuid())
