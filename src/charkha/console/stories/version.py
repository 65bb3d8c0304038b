"""The story of a model version: its gate, its run, its data, its releases, how it fared."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

from charkha.clock import to_second
from charkha.console.stories.happened import (
    alerts,
    champion_at,
    event,
    newest,
    number_of,
    releases,
    verdict,
    whole,
)
from charkha.console.stories.run import run_part
from charkha.console.stories.story import Fact, Next, Story, utc, word

if TYPE_CHECKING:
    from charkha.console.stories.ledgers.port import Entry
    from charkha.console.stories.sources import Sources
    from charkha.models.registries.port import ModelVersion

_EVENTS = 10  # of a version, the newest
_WINDOWS = 3  # verdicts of each kind, the newest


def tell_version(sources: Sources, version: ModelVersion) -> Story:
    """Tell all that is known of a version."""
    name, tags, subject = version.name, version.tags, str(version)
    run = tags.get("charkha.run", "")
    parts = (
        *gate_part(sources, name, version.version, None),
        *run_part(sources, run),
        *_releases(sources, version),
        *_moves(sources, version),
        *_checked(sources, subject),
        *_alerts(sources, subject),
    )
    found = {n.reference: n for part in parts for n in part.next}
    return Story(
        kind="version",
        id=subject,
        title=f"{subject}{_is(version)}",
        at=utc(version.created_at),
        because=_because(sources, version),
        facts=(
            Fact(name="registered", value=utc(version.created_at)),
            Fact(name="aliases", value=list(version.aliases), text=word(list(version.aliases))),
            Fact(name="package", value=version.package, text=(version.package or "none")[:12]),
            Fact(name="data", value=_data(version), text=word(_data(version))),
            Fact(name="params", value=json.loads(tags.get("charkha.params", "{}"))),
            Fact(
                name="scores", value=json.loads(tags.get("charkha.metrics", "{}")).get("test", {})
            ),
            Fact(name="run", value=run or None, text=""),
            Fact(name="commit", value=tags.get("charkha.commit"), text=""),
            Fact(name="held", value=_held(sources, version), text=word(_held(sources, version))),
        ),
        parts=(*parts, *sources.silence()),
        next=tuple(found.values()),
    )


def version_part(sources: Sources, name: str, number: int, at: float) -> Story:
    """Return what a version was at a moment, in a few words."""
    version = sources.version(name, number)
    champion = champion_at(_moved(sources, name), sources.entries("gate", name), at)
    then = champion_words(champion, number)
    subject = f"{name}@{number}"
    if version is None:
        return Story(
            kind="version",
            id=subject,
            title=f"version {subject}, which {then}",
            because=("the registry has no such version now",),
        )
    return Story(
        kind="version",
        id=subject,
        title=f"version {subject}, which {then}",
        at=utc(version.created_at),
        facts=(
            Fact(name="registered", value=utc(version.created_at)),
            Fact(name="aliases now", value=list(version.aliases), text=word(list(version.aliases))),
            Fact(name="champion then", value=champion, text=""),
            Fact(name="data", value=_data(version)),
            Fact(name="package", value=version.package, text=(version.package or "none")[:12]),
        ),
        next=(Next(reference=subject, what="the version that answered"),),
    )


def champion_words(champion: int | None, number: int) -> str:
    """Return what a version was, by who was champion."""
    if champion is None:
        return "was there before anybody was champion, as far as the ledger goes"
    return "was champion then" if champion == number else f"was not champion then: {champion} was"


def gate_part(sources: Sources, name: str, number: int, at: float | None) -> Iterator[Story]:
    """Yield the gate's verdict on a version: the last one until a moment, or the newest."""
    entries = [e for e in sources.entries("gate", name) if number_of(e.subject) == number]
    entry = newest(entries, at) if at is not None else (entries[-1] if entries else None)
    if entry is None:
        return
    told = verdict(entry)
    champion = told.get("champion") or {}
    against = f"{name}@{champion['version']}" if champion.get("version") else None
    passed = "passed" if told.get("passed") else "refused it"
    beside = f", against {against}" if against else ", with no champion to compare with"
    rows = told.get("rows")
    of = f" on {rows:,} held-out rows" if isinstance(rows, int) else ""
    warned = tuple(f"warning: {text}" for text in told.get("warnings", ()))
    because = tuple(told.get("because") or (entry.because,))
    yield Story(
        kind="gate",
        id=entry.short,
        title=f"the gate {passed}{beside}{of}",
        at=entry.when,
        because=(*map(str, because), *warned),
        facts=(
            Fact(name="decision", value=entry.id, text=""),
            Fact(name="passed", value=bool(told.get("passed")), text=""),
            Fact(name="against", value=against, text=""),
            Fact(name="rows", value=rows, text=""),
            Fact(name="rules", value=told.get("rules", []), text=""),
            Fact(name="verdicts in all", value=len(entries), text="" if len(entries) < 2 else None),
        ),
        next=(
            *(
                [Next(reference=against, what="the champion it was held against")]
                if against
                else []
            ),
        ),
    )


def _is(version: ModelVersion) -> str:
    return (
        f", {' and '.join(version.aliases)} now"
        if version.aliases
        else ", which no alias names now"
    )


def _because(sources: Sources, version: ModelVersion) -> tuple[str, ...]:
    """Say why it stands where it stands: the last decision that moved it, or moved it away."""
    moves = _moved(sources, version.name)
    own = [
        e for e in moves if version.version in (number_of(e.subject), whole(e.numbers.get("from")))
    ]
    if not own:
        gates = sources.entries("gate", version.name)
        if "champion" in version.aliases and gates:
            return ("it is champion as the first that passed",)
        return ()
    last = own[-1]
    to = "made champion" if number_of(last.subject) == version.version else "replaced"
    return (f"{to} on {to_second(last.when)} by {last.who}: {last.because}",)


def _moved(sources: Sources, name: str) -> list[Entry]:
    """Return promotions and rollbacks, oldest first."""
    both = [*sources.entries("promotion", name), *sources.entries("rollback", name)]
    return sorted(both, key=lambda entry: entry.at)


def _data(version: ModelVersion) -> list[str]:
    """Return `ames@a304afb9`, as `charkha data restore` takes it."""
    pairs = (text.partition("=") for text in version.tags.get("charkha.data", "").split())
    return [f"{name}@{digest.rpartition(':')[2][:8]}" for name, _, digest in pairs]


def _held(sources: Sources, version: ModelVersion) -> list[str]:
    """Return the variants in which the server's file has this version now."""
    held = sources.held(version.name)
    if held is None:
        return []
    return [
        f"{v.get('name')} ({'shadow' if v.get('shadow') else word(v.get('share'))})"
        for v in held.variants
        if whole(v.get("version")) == version.version
    ]


def _releases(sources: Sources, version: ModelVersion) -> Iterator[Story]:
    for released in releases(sources.entries("release", version.name)):
        if version.version not in (released.baseline, released.candidate):
            continue
        other = released.baseline if version.version == released.candidate else released.candidate
        word_ = "instead of" if version.version == released.candidate else "to be replaced by"
        yield Story(
            kind="release",
            id=released.id,
            title=f"{released.strategy} release {released.id}, {word_} {version.name}@{other}: "
            f"{released.last.text('phase')}",
            at=released.entries[0].when,
            because=(released.last.because,),
            facts=(Fact(name="phase", value=released.last.numbers.get("phase"), text=""),),
            next=(Next(reference=released.id, what=f"the {released.strategy} release"),),
        )


def _moves(sources: Sources, version: ModelVersion) -> Iterator[Story]:
    own = [
        entry
        for entry in _moved(sources, version.name)
        if version.version in (number_of(entry.subject), whole(entry.numbers.get("from")))
    ]
    yield from (event(entry) for entry in own[-_EVENTS:])


def _checked(sources: Sources, subject: str) -> Iterator[Story]:
    for kind in ("drift", "performance"):
        yield from (event(entry) for entry in sources.entries(kind, subject)[-_WINDOWS:])


def _alerts(sources: Sources, subject: str) -> Iterator[Story]:
    for alert in alerts(sources.entries("alert", subject)):
        yield event(alert.last)
