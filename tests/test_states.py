import threading
from pathlib import Path

import pytest

from charkha.errors import Unavailable
from charkha.states import States


@pytest.fixture
def states(tmp_path: Path):
    made = States(f"sqlite:///{tmp_path}/ledger.db")
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


def test_of_many_who_write_after_the_same_revision_one_does(tmp_path):
    url = f"sqlite:///{tmp_path}/ledger.db"
    States(url).close()
    won, began = [], threading.Barrier(6)

    def write(number):
        own = States(url)
        began.wait()
        if own.write("release", "prices", {"by": number}, after=0):
            won.append(number)
        if own.take("release/prices", str(number), now=1, for_s=9):
            won.append(f"lease {number}")
        own.close()

    threads = [threading.Thread(target=write, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 2


def test_a_database_that_cannot_be_opened_is_unavailable(tmp_path):
    with pytest.raises(Unavailable, match="does not answer"):
        States(f"sqlite:///{tmp_path}/no/such/folder/ledger.db")
