"""States and leases, in SQLite and in PostgreSQL."""

import json
import subprocess
import sys
import threading
import time

import psycopg
import pytest

from charkha.errors import Unavailable
from charkha.states import States


@pytest.fixture
def states(database):
    made = States(database)
    yield made
    made.close()


def test_a_state_comes_back_with_its_revision(states):
    assert states.read("release", "prices") is None
    assert states.write("release", "prices", {"a": [1]}, after=0)
    assert states.read("release", "prices") == ("prices", 1, {"a": [1]})
    assert states.write("release", "prices", {"a": [2]}, after=1)
    assert states.read("release", "prices") == ("prices", 2, {"a": [2]})


def test_only_who_read_the_newest_revision_writes(states):
    assert states.write("release", "prices", {}, after=0)
    assert not states.write("release", "prices", {"late": 1}, after=0)
    assert states.write("release", "prices", {}, after=1)
    assert not states.write("release", "prices", {"late": 1}, after=1)
    assert states.read("release", "prices").value == {}


def test_states_of_a_kind_are_told_in_order_and_of_no_other_kind(states):
    for kind, key in (("release", "b"), ("loop", "a"), ("release", "a")):
        states.write(kind, key, {}, after=0)
    assert [kept.key for kept in states.all("release")] == ["a", "b"]


def test_a_lease_is_one_owners_until_it_ends_or_is_given_back(states):
    assert states.take("release/prices", "ann", now=100, for_s=10)
    assert not states.take("release/prices", "bob", now=105, for_s=10)
    assert states.take("release/prices", "ann", now=105, for_s=10)
    assert not states.take("release/prices", "bob", now=114, for_s=10)
    assert states.take("release/prices", "bob", now=115, for_s=10)
    states.give_back("release/prices", "ann")  # it is bob's
    assert not states.take("release/prices", "ann", now=116, for_s=10)
    states.give_back("release/prices", "bob")
    assert states.take("release/prices", "ann", now=116, for_s=10)


def test_a_lease_that_a_clock_which_was_set_back_has_left_in_the_future_blocks_nobody(states):
    assert states.take("release/prices", "ann", now=86_400, for_s=10)
    assert states.take("release/prices", "bob", now=100, for_s=10)
    assert not states.take("release/prices", "ann", now=95, for_s=10)  # a clock that is a bit slow


def test_a_kind_or_key_may_be_long(states):
    assert states.write("k" * 50, "m" * 500, {}, after=0)
    assert states.take("l" * 500, "o" * 100, now=1, for_s=1)


RACE = """
import json, os, sys
import psycopg  # once, and not in each process
from charkha.states import States

url, rounds = sys.argv[1], range(20)
go, let_go = os.pipe()
for number in range(8):
    if os.fork() == 0:
        os.close(let_go)
        os.read(go, 1)  # until the parent closes it: all begin at once, and make the tables
        states = States(url)
        by = {"by": number}
        won = [n for n in rounds if states.write("release", "prices", by, after=n)]
        leases = [n for n in rounds if states.take(f"{n}", f"{number}", now=1, for_s=9)]
        os.write(1, f"{json.dumps([won, leases])}\\n".encode())
        os._exit(0)
os.close(let_go)
assert {os.wait()[1] for _ in range(8)} == {0}
"""


def test_of_eight_processes_that_write_after_the_same_revision_exactly_one_does(database):
    done = subprocess.run(
        [sys.executable, "-c", RACE, database], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(told) == 8
    for what in (0, 1):
        assert sorted(n for each in told for n in each[what]) == list(range(20))
    states = States(database)
    assert states.read("release", "prices").revision == 20
    states.close()


def test_who_makes_the_tables_at_the_same_moment_as_another_goes_on(postgresql):
    url, made = postgresql.make_database(), []
    with psycopg.connect(url) as other:
        for table in ("states", "leases"):
            other.execute(f"CREATE TABLE {table} (LIKE pg_class)")  # and not committed yet
        second = threading.Thread(target=lambda: made.append(States(url)))
        second.start()
        while not other.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchall():
            time.sleep(0.01)
    second.join()
    assert made
    made[0].close()


def test_a_database_that_cannot_be_opened_is_unavailable(tmp_path):
    with pytest.raises(Unavailable, match="does not answer"):
        States(f"sqlite:///{tmp_path}/no/such/folder/ledger.db")
