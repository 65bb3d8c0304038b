"""What happened to a model, from the ledger: one story, in the order in which it happened."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from charkha.project import Project

Tone = Literal["good", "bad", "neutral"]


@dataclass(frozen=True, kw_only=True)
class Moment:
    """One thing that happened, as a person tells it."""

    at: float  # unix seconds
    kind: str  # of the ledger's decision: gate, promotion, rollback, release, drift, alert, loop, …
    subject: str  # "house-prices@3"
    what: str  # "release: canary 5 %", a few words
    because: str
    tone: Tone
    who: str


def story(
    project: Project, model: str, since: str | datetime | float | None = None
) -> tuple[Moment, ...]:
    """Return what happened to a model, oldest first; drift and performance where they changed.

    Args:
        project: whose ledger is read.
        model: its name; every version of it is told of.
        since: as `charkha.read_records`, or unix seconds; from the beginning without it.

    Raises:
        Unavailable: the ledger does not answer.
    """
    raise NotImplementedError
