"""What every reader of Decisions must do, on a ledger that Charkha's own has written."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from charkha.console.stories.ledgers.port import Decisions


class DecisionsContract:
    """A ledger with a gate of `a@1` (time 1), drift of `a@1` (2) and `a@12` (3), of `ab@1` (4)."""

    @pytest.fixture
    def decisions(self) -> Decisions:
        raise NotImplementedError("give the reader's tests a `decisions` fixture")

    def test_entries_come_oldest_first_as_they_were_recorded(self, decisions: Decisions) -> None:
        first, *rest = decisions.read()
        assert (first.at, first.kind, first.subject, first.because, first.who) == (
            1.0,
            "gate",
            "a@1",
            "it is better",
            "run 7",
        )
        assert first.numbers == {"verdict": {"passed": True}}
        assert [entry.at for entry in rest] == [2.0, 3.0, 4.0]

    def test_a_subject_finds_itself_and_its_versions_and_no_longer_name(
        self, decisions: Decisions
    ) -> None:
        assert [e.subject for e in decisions.read("drift", "a")] == ["a@1", "a@12"]
        assert [e.subject for e in decisions.read("drift", "a@1")] == ["a@1"]

    def test_the_beginning_of_an_id_finds_its_entry(self, decisions: Decisions) -> None:
        entry = decisions.read()[2]
        assert decisions.read(id=entry.short) == [entry]
        assert decisions.read(id="nothing begins so") == []

    def test_states_come_by_their_keys(self, decisions: Decisions) -> None:
        assert decisions.states("release") == {"a": {"id": "r1"}}
        assert decisions.states("other") == {}
