"""A turn of the wheel as it is kept between two looks, and what the ledger says of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, Self

from charkha.ledger import Decision
from charkha.loop.triggers import BUDGET_S, Begun, Kind

KIND = "loop"  # of states and of decisions
REQUEST = "loop-request"  # of states: that a person asks for a turn
TICK_S = 0.001  # the least time between two decisions, as the ledger sorts them by it
Phase = Literal["training", "releasing", "ended"]
Outcome = Literal[
    "promoted", "refused", "rolled back", "unchanged", "failed", "not released", "aborted"
]


@dataclass(frozen=True, kw_only=True)
class Turn:
    """From a trigger to a verdict. Who goes on with it needs nothing but this."""

    id: str  # sorts by the time at which it began
    trigger: Kind
    because: str  # why it is in its phase
    began_at: float  # unix seconds
    params: Mapping[str, str]  # of the pipeline
    phase: Phase = "training"
    outcome: Outcome | None = None
    run: str | None = None
    version: int | None = None  # the candidate
    request: str | None = None  # of the person who asked
    decided_at: float  # when this phase was reached
    by: str

    def moved(self, now: float, by: str, because: str, **changes: Any) -> Turn:
        """Return it one phase further; a later one never stands before it, whatever the clock does."""
        later = max(now, self.decided_at + TICK_S)
        return replace(self, decided_at=later, by=by, because=because, **changes)

    def ended(self, now: float, by: str, outcome: Outcome, because: str, **changes: Any) -> Turn:
        """Return it with its outcome."""
        return self.moved(now, by, because, phase="ended", outcome=outcome, **changes)


@dataclass(frozen=True, kw_only=True)
class Kept:
    """All that the loop of a model remembers."""

    turn: Turn | None = None  # the last one
    begun: tuple[Begun, ...] = ()  # of the last 30 days
    data: Mapping[str, str] = field(default_factory=dict)  # dataset -> version at the last turn
    labels: int = 0  # ground truths at the last turn
    before: tuple[Mapping[str, str], int] = ({}, 0)  # those two at the turn before it
    served: str | None = None  # the last request of a person that a turn was begun for
    watching_since: float  # unix seconds; schedules before it are over
    silent_since: float | None = None  # unix seconds: nothing was heard of the turn's run since
    silent: str = ""  # why
    said: str = ""  # why nothing was done at the last look
    looked_at: float = 0.0

    def with_turn(self, turn: Turn, *, data: Mapping[str, str], labels: int) -> Kept:
        """Return it with a turn that begins."""
        recent = [b for b in self.begun if abs(turn.began_at - b.at) < BUDGET_S]
        begun = (*recent, Begun(trigger=turn.trigger, at=turn.began_at))
        served = turn.request or self.served
        before = (self.data, self.labels)
        moved = replace(self, begun=begun, data=dict(data), labels=labels, before=before)
        return replace(moved.heard(), turn=turn, served=served, said="")

    def with_end(self, turn: Turn) -> Kept:
        """Return it with its turn ended: from then on triggers cool down.

        One that failed has learnt nothing, so what was new for it is new for the next one.
        """
        last = self.begun[-1:]
        ended = tuple(replace(b, at=turn.decided_at) for b in last)
        data, labels = self.before if turn.outcome == "failed" else (self.data, self.labels)
        return replace(self, turn=turn, begun=(*self.begun[:-1], *ended), data=data, labels=labels)

    def heard(self) -> Kept:
        """Return it where something was heard of the turn's run."""
        return replace(self, silent_since=None, silent="")

    def unheard(self, now: float, why: str) -> Kept:
        """Return it where nothing was heard of the run, for the first time or again."""
        since = now if self.silent_since is None else self.silent_since
        return replace(self, silent_since=since, silent=why)

    def silent_s(self, now: float) -> float:
        """Return for how many seconds nothing was heard of the run, whatever a clock did.

        Counted from when it was last heard of, for a run may take longer than a day.
        """
        return 0.0 if self.silent_since is None else abs(now - self.silent_since)

    def as_json(self) -> dict[str, Any]:
        """Return plain data, which `from_json` reads."""
        return asdict(self)

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Self:
        """Return what `as_json` told."""
        turn = told["turn"]
        return cls(
            **{
                **told,
                "turn": None if turn is None else Turn(**turn),
                "begun": tuple(Begun(**b) for b in told["begun"]),
                "before": tuple(told.get("before", ({}, 0))),
            }
        )


def decision(model: str, turn: Turn) -> Decision:
    """Return what the ledger says of the phase of a turn: the same, whoever asks."""
    numbers: dict[str, object] = {
        "turn": turn.id,
        "trigger": turn.trigger,
        "phase": turn.phase,
        "outcome": turn.outcome,
        "run": turn.run,
        "version": turn.version,
        "params": dict(turn.params),
    }
    return Decision(
        at=turn.decided_at,
        kind=KIND,
        subject=model if turn.version is None else f"{model}@{turn.version}",
        because=turn.because,
        numbers=numbers,
        who=turn.by,
    )
