"""What happened to a model, from the ledger: one story, in the order in which it happened."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal, NamedTuple, cast

from charkha.ledger import open_ledger
from charkha.serving.records.moments import moment_of

if TYPE_CHECKING:
    from charkha.ledger import Decision
    from charkha.project import Project

Tone = Literal["good", "bad", "neutral"]

_PHASES: dict[str, tuple[str, Tone]] = {
    "judging": ("release goes on", "neutral"),
    "watching": ("promoted, and watched", "good"),
    "promoted": ("release ended: promoted", "good"),
    "rolled back": ("release rolled back", "bad"),
    "aborted": ("release aborted", "bad"),
}
_OUTCOMES: dict[str, tuple[str, Tone]] = {
    "drift": ("drift", "bad"),
    "no drift": ("no drift", "good"),
    "lower": ("performance is lower", "bad"),
    "as expected": ("performance as expected", "good"),
}
_ENDS: dict[str, Tone] = {"promoted": "good", "rolled back": "bad", "failed": "bad"}
_ALERTS: dict[str, Tone] = {"opened": "bad", "changed": "bad", "resolved": "good"}


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

    A decision of a kind that is not known here is told with its kind, or with the `what` and the
    `tone` ("good", "bad") that stand among its numbers.

    Args:
        project: whose ledger is read.
        model: its name; every version of it is told of.
        since: as `charkha.read_records`, or unix seconds; from the beginning without it.

    Raises:
        UserError: there is no such moment.
        Unavailable: the ledger does not answer.
    """
    if since is None or isinstance(since, float | int):
        start = float(since or 0.0)
    else:
        start = moment_of(since).timestamp()
    ledger = open_ledger(project)
    try:
        decisions = ledger.read(subject=model)
    finally:
        ledger.close()
    return tuple(moment for moment in _told(decisions) if moment.at >= start)


def _told(decisions: Sequence[Decision]) -> Iterator[Moment]:
    outcomes: dict[tuple[str, str], object] = {}
    for decision in decisions:
        numbers = decision.numbers
        if decision.kind in ("drift", "performance"):
            outcome = numbers.get("outcome")
            of_what = numbers.get("drifted") or numbers.get("lower") or ()
            now = (outcome, tuple(cast("list[str]", of_what)))
            key = (decision.kind, decision.subject)
            if numbers.get("segment") or outcome not in _OUTCOMES or outcomes.get(key) == now:
                continue
            outcomes[key] = now
        said = _words(decision)
        yield Moment(
            at=decision.at,
            kind=decision.kind,
            subject=decision.subject,
            what=said.what,
            because=(said.because or decision.because).replace("input.", ""),
            tone=said.tone,
            who=decision.who,
        )


class _Words(NamedTuple):
    what: str
    tone: Tone
    because: str = ""


def _words(decision: Decision) -> _Words:
    kind, numbers = decision.kind, decision.numbers
    if kind in ("drift", "performance"):
        what, tone = _OUTCOMES[str(numbers["outcome"])]
        return _Words(what, tone, decision.because.removeprefix(f"{numbers['outcome']}: "))
    if kind == "gate":
        verdict = cast("dict[str, object]", numbers.get("verdict") or {})
        if verdict.get("passed"):
            return _Words("passed the gate", "good")
        return _Words("refused by the gate", "bad")
    if kind == "release":
        what, tone = _PHASES.get(str(numbers.get("phase")), ("release", "neutral"))
        strategy = numbers.get("strategy")
        return _Words(f"{strategy} {what}" if strategy and tone == "neutral" else what, tone)
    if kind == "alert":
        change = str(numbers.get("state"))
        title = str(numbers.get("title", ""))
        because = decision.because.removeprefix(f"{change}: ")
        return _Words(f"alert {change}: {title}", _ALERTS.get(change, "neutral"), because)
    if kind == "loop" and "phase" in numbers:
        return _of_loop(str(numbers["phase"]), numbers)
    if kind == "promotion":
        return _Words("became champion", "good")
    if kind == "rollback":
        return _Words("champion again, by a rollback", "bad")
    told = numbers.get("tone")
    return _Words(
        str(numbers.get("what") or kind),
        told if told in ("good", "bad") else "neutral",
    )


def _of_loop(phase: str, numbers: Mapping[str, object]) -> _Words:
    """Return what a turn of the loop did: trained, handed over to a release, or ended."""
    if phase == "training":
        return _Words(f"trains again: {numbers.get('trigger')}", "neutral")
    if phase == "releasing":
        return _Words("candidate goes to its release", "neutral")
    outcome = str(numbers.get("outcome"))
    return _Words(f"turn of the loop ended: {outcome}", _ENDS.get(outcome, "neutral"))
