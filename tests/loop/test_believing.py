"""Whether a candidate may be released, by what the ledger says of its package."""

import pytest

from charkha.ledger import Decision
from charkha.loop.believing import taken_back
from charkha.models.registries.port import ModelVersion

AT = 1_795_741_566.0  # 2026-11-27 01:06:06 UTC


def version(number, package):
    return ModelVersion("prices", number, package, (), {}, "file:///x", AT)


OLD, NEW, SAME, OTHER = version(2, "a"), version(3, "b"), version(4, "b"), version(5, "c")
VERSIONS = (OLD, NEW, SAME, OTHER)


def release(number, phase, at=AT):
    numbers = {"release": f"r{at - AT:g}", "phase": phase, "from": 2, "to": number}
    return Decision(
        at=at, kind="release", subject=f"prices@{number}", because="worse: loss +30 %",
        numbers=numbers, who="eve",
    )  # fmt: skip


def moved(kind, to, source, at=AT):
    return Decision(
        at=at, kind=kind, subject=f"prices@{to}", because="it was odd",
        numbers={"from": source, "to": to}, who="eve",
    )  # fmt: skip


def test_what_no_release_has_judged_may_be_released():
    others = [release(5, "rolled back"), release(3, "judging"), release(3, "watching")]
    assert taken_back(NEW, VERSIONS, others, "drift") is None


@pytest.mark.parametrize("phase", ["rolled back", "aborted"])
def test_what_was_rolled_back_or_aborted_is_not_released_again_and_the_reason_is_said(phase):
    why = taken_back(NEW, VERSIONS, [release(3, phase)], "schedule")
    assert why == (f"release r0 of prices@3 was {phase} at 2026-11-27 01:06:06Z: worse: loss +30 %")


def test_the_same_package_under_another_number_is_the_same_candidate():
    assert taken_back(SAME, VERSIONS, [release(3, "rolled back")], "drift") is not None
    assert taken_back(OTHER, VERSIONS, [release(3, "rolled back")], "drift") is None


def test_a_person_who_asks_for_a_turn_may_try_it_again():
    assert taken_back(NEW, VERSIONS, [release(3, "rolled back")], "person") is None


def test_the_last_word_counts():
    told = [release(3, "promoted", AT + 9), release(3, "rolled back", AT)]  # in any order
    assert taken_back(NEW, VERSIONS, told, "drift") is None
    told.append(release(4, "aborted", AT + 20))
    assert "release r20 of prices@4 was aborted" in str(taken_back(NEW, VERSIONS, told, "drift"))
    told.append(moved("promotion", 4, 2, AT + 30))
    assert taken_back(NEW, VERSIONS, told, "drift") is None


def test_what_a_person_rolled_back_in_the_registry_stays_back():
    told = [moved("promotion", 3, 2), moved("rollback", 2, 3, AT + 9)]
    why = taken_back(NEW, VERSIONS, told, "data")
    assert why == "version 3 was rolled back at 2026-11-27 01:06:15Z by eve: it was odd"
    assert taken_back(OTHER, VERSIONS, told, "data") is None
