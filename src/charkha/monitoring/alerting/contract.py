"""What every Destination must do. A new one passes this suite before it is reviewed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from charkha.monitoring.alerts import Alert
from charkha.monitoring.causes import Cause

if TYPE_CHECKING:
    from charkha.monitoring.alerting.port import Destination

NOW = 1_790_000_000.0
CAUSE = Cause(
    key="drift/prices@3",
    title="Drift in a <b> & c",
    text="median up 12 % (rank, p = 1e-09)",
    severity="warning",
    subject="prices@3",
    state=("input.a <b> & c",),
)
ALERT = Alert(
    id="al-abcdefg",
    cause=CAUSE,
    change="opened",
    count=1,
    opened_at=NOW,
    changed_at=NOW,
    because=CAUSE.text,
)


class DestinationContract:
    """Subclass it with fixtures `destination`, and `arrived`, which returns the texts that came."""

    def test_it_has_a_name(self, destination: Destination) -> None:
        assert destination.name.isidentifier()

    def test_what_opened_arrives_with_its_words(
        self, destination: Destination, arrived: Callable[[], list[str]]
    ) -> None:
        destination.send(ALERT, until=NOW + 900)
        [text] = arrived()
        assert "prices@3" in text
        assert "median up 12 %" in text
        assert ALERT.id in text

    def test_what_is_resolved_arrives_as_that(
        self, destination: Destination, arrived: Callable[[], list[str]]
    ) -> None:
        destination.send(ALERT, until=NOW + 900)
        resolved = replace(ALERT, change="resolved", count=2, changed_at=NOW + 60)
        destination.send(resolved, until=NOW + 960)
        assert len(arrived()) == 2
        assert arrived()[0] != arrived()[1]

    def test_the_same_twice_is_no_error(self, destination: Destination) -> None:
        for _ in range(2):
            destination.send(ALERT, until=NOW + 900)

    def test_a_long_text_is_no_error(
        self, destination: Destination, arrived: Callable[[], list[str]]
    ) -> None:
        long = replace(ALERT, because="much to say " * 1_000)
        destination.send(long, until=NOW + 900)
        assert len(arrived()) == 1
