"""The stories of an alert, of a turn of the loop, and of any other decision in the ledger."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from charkha.clock import to_second
from charkha.console.stories.happened import (
    Alerted,
    event,
    model_of,
    numbers_as_facts,
    reference_of,
    releases,
    turns,
    whole,
)
from charkha.console.stories.story import Fact, Next, Story

if TYPE_CHECKING:
    from charkha.console.stories.ledgers.port import Entry
    from charkha.console.stories.sources import Sources

_BEHIND = 3  # verdicts that made an alert, the newest
_AFTER = 5  # decisions that followed


def tell_alert(sources: Sources, alert: Alerted) -> Story:
    """Tell what an alert was about, what was behind it, and what followed."""
    first, last = alert.entries[0], alert.last
    ended = alert.resolved
    state = f"resolved {to_second(ended.when)}" if ended else "open"
    behind = _behind(sources, alert)
    followed = _followed(sources, alert)
    subject = alert.subject
    parts = (*(event(e) for e in alert.entries), *map(event, behind), *map(event, followed))
    found = {n.reference: n for part in parts for n in part.next if n.reference != alert.id}
    return Story(
        kind="alert",
        id=alert.id,
        title=f"alert on {subject}, {alert.cause}: {state}",
        at=first.when,
        because=(last.because,),
        facts=(
            Fact(name="cause", value=alert.cause, text=""),
            Fact(name="subject", value=subject, text=""),
            Fact(name="severity", value=last.numbers.get("severity")),
            Fact(name="state", value=last.numbers.get("state"), text=""),
            Fact(name="opened", value=first.when),
            *([Fact(name="resolved", value=ended.when)] if ended else []),
        ),
        parts=(*parts, *sources.silence()),
        next=(
            *([Next(reference=subject, what="what it is about")] if "@" in subject else []),
            *found.values(),
        ),
    )


def tell_turn(sources: Sources, id: str, entries: tuple[Entry, ...]) -> Story:
    """Tell why the loop turned, what it did, and what came of it."""
    first, last = entries[0], entries[-1]
    model = model_of(first.subject)
    run = next((e.text("run") for e in reversed(entries) if e.text("run")), "")
    version = next((v for e in reversed(entries) if (v := whole(e.numbers.get("version")))), None)
    outcome = last.text("outcome") or last.text("phase") or "going on"
    released = [
        r
        for r in releases(sources.entries("release", model))
        if version is not None and r.candidate == version and r.entries[0].at >= first.at
    ]
    return Story(
        kind="turn",
        id=id,
        title=f"turn {id} of the loop for {first.subject}: {outcome}",
        at=first.when,
        because=(first.because, *([last.because] if last.because != first.because else [])),
        facts=(
            Fact(name="trigger", value=first.numbers.get("trigger")),
            Fact(name="phase", value=last.numbers.get("phase"), text=""),
            Fact(name="outcome", value=last.numbers.get("outcome"), text=""),
            Fact(name="run", value=run or None, text=""),
            Fact(name="version", value=version, text=""),
        ),
        parts=(*(event(entry) for entry in entries), *sources.silence()),
        next=(
            *([Next(reference=run, what="the run that it started")] if run else []),
            *(
                [Next(reference=f"{model}@{version}", what="the version it made")]
                if version
                else []
            ),
            *(Next(reference=r.id, what=f"the {r.strategy} release") for r in released),
        ),
    )


def tell_decision(sources: Sources, entry: Entry) -> Story:
    """Tell one decision of the ledger with all its numbers."""
    whole_story = reference_of(entry)
    more = [Next(reference=whole_story, what=f"the whole {entry.kind}")]
    return Story(
        kind="decision",
        id=entry.short,
        title=f"{entry.kind} of {entry.subject}",
        at=entry.when,
        because=(entry.because,),
        facts=(
            Fact(name="decision", value=entry.id, text=""),
            *numbers_as_facts(entry),
            Fact(name="by", value=entry.who),
        ),
        parts=(*_columns(entry), *sources.silence()),
        next=(
            *(
                [Next(reference=entry.subject, what="what it is about")]
                if "@" in entry.subject
                else []
            ),
            *(more if whole_story != entry.short else []),
            *([Next(reference=entry.text("run"), what="the run")] if entry.text("run") else []),
        ),
    )


def _columns(entry: Entry) -> Iterator[Story]:
    """Yield what a verdict says of its columns, in one part."""
    columns = entry.numbers.get("columns")
    if not isinstance(columns, dict) or not columns:
        return
    facts = tuple(Fact(name=str(name), value=told) for name, told in columns.items())
    yield Story(kind="event", id=entry.short, title=f"{len(columns)} columns", facts=facts)


def _behind(sources: Sources, alert: Alerted) -> list[Entry]:
    """Return the verdicts of the alert's kind until it was last changed."""
    kind = alert.cause.partition("/")[0] or "drift"
    if kind in ("alert", "release", "loop"):
        return []
    until = alert.last.at
    told = [e for e in sources.entries(kind, alert.subject) if e.at <= until]
    return told[-_BEHIND:]


def _followed(sources: Sources, alert: Alerted) -> list[Entry]:
    """Return what was done about the model after the alert opened: turns of the loop, moves."""
    model, since = model_of(alert.subject), alert.entries[0].at
    until = alert.resolved.at if alert.resolved else float("inf")
    told = [
        entry
        for turn in turns(sources.entries("loop", model)).values()
        for entry in (turn[0],)
        if since <= entry.at <= until
    ]
    for kind in ("promotion", "rollback"):
        told += [e for e in sources.entries(kind, model) if since <= e.at <= until]
    return sorted(told, key=lambda entry: entry.at)[:_AFTER]
