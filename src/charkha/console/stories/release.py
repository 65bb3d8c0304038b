"""The story of a release: what instead of what, each decision with its numbers, how it ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from charkha.clock import to_second
from charkha.console.stories.happened import Released, event
from charkha.console.stories.story import Fact, Next, Story, span, utc, word
from charkha.errors import DataError
from charkha.release.rules import Finding

if TYPE_CHECKING:
    from charkha.console.stories.ledgers.port import Entry
    from charkha.console.stories.sources import Sources


def tell_release(sources: Sources, released: Released) -> Story:
    """Tell all that is known of a release."""
    state = sources.release_state(released.model)
    kept = state if state is not None and state.get("id") == released.id else {}
    last = released.last
    parts = [
        *(event(entry) for entry in released.entries),
        *_judged(kept, last),
        *_moved(sources, released),
    ]
    return Story(
        kind="release",
        id=released.id,
        title=f"{released.strategy} release of {released.model}@{released.candidate} instead of "
        f"version {released.baseline}: {last.text('phase')}",
        at=released.entries[0].when,
        because=(last.because,),
        facts=(
            Fact(name="phase", value=last.numbers.get("phase"), text=""),
            Fact(name="from", value=released.baseline, text=""),
            Fact(name="to", value=released.candidate, text=""),
            Fact(name="strategy", value=released.strategy, text=""),
            Fact(name="began", value=released.entries[0].when),
            *_ended(released),
            *_plan(kept),
            Fact(name="by", value=last.who),
        ),
        parts=(*parts, *sources.silence()),
        next=(
            Next(reference=f"{released.model}@{released.candidate}", what="the version released"),
            Next(reference=f"{released.model}@{released.baseline}", what="the version before"),
        ),
    )


def release_part(told: tuple[Released, Entry], at: float) -> Story:
    """Return what a release was about at a moment."""
    released, entry = told
    phase = entry.text("phase")
    stage = entry.numbers.get("stage")
    where = (
        f"{phase}, stage {stage + 1}" if phase == "judging" and isinstance(stage, int) else phase
    )
    ended = (
        f"it ended {to_second(released.ended.when)}: {released.ended.text('phase')}, because "
        f"{released.ended.because}"
        if released.ended
        else "it goes on still"
    )
    return Story(
        kind="release",
        id=released.id,
        title=f"in {released.strategy} release {released.id} of {released.model}@"
        f"{released.candidate} instead of {released.baseline}: {where}",
        at=entry.when,
        because=(
            f"decided {span(max(0.0, at - entry.at))} before: {entry.because}",
            *findings(entry.numbers.get("findings")),
            ended,
        ),
        facts=(
            Fact(name="phase", value=phase, text=""),
            Fact(name="stage", value=stage, text=""),
            Fact(name="from", value=released.baseline, text=""),
            Fact(name="to", value=released.candidate, text=""),
            Fact(name="findings", value=entry.numbers.get("findings", []), text=""),
            Fact(name="ended as", value=released.ended and released.ended.text("phase"), text=""),
        ),
        next=(Next(reference=released.id, what="the release it was part of"),),
    )


def findings(told: object) -> tuple[str, ...]:
    """Return what the judge compared, in words; nothing of what has another form."""
    said = []
    for each in told if isinstance(told, list) else ():
        try:
            finding = Finding(**{**each, "counts": tuple(each["counts"])})
            if finding.difference is not None:
                verdict = "worse" if finding.worse else "no worse" if finding.fine else "open"
                said.append(f"{verdict}: {finding.said()}")
        except (DataError, TypeError, KeyError, IndexError, ValueError):
            continue
    return tuple(said)


def _judged(kept: dict[str, Any], last: Entry) -> list[Story]:
    """Return what the judge said last, with each comparison."""
    verdict = kept.get("verdict") or {}
    told = findings(verdict.get("findings") or last.numbers.get("findings"))
    if not told and not verdict:
        return []
    looked = kept.get("looked_at")
    return [
        Story(
            kind="decision",
            id=last.short,
            title=f"what the judge said last: {verdict.get('kind', 'its findings')}",
            at=utc(looked) if isinstance(looked, int | float) else last.when,
            because=(*([str(verdict["because"])] if verdict.get("because") else []), *told),
            facts=(
                Fact(name="findings", value=verdict.get("findings", []), text=""),
                Fact(
                    name="with traffic",
                    value=verdict.get("total_s"),
                    text=span(float(verdict["total_s"])) if verdict.get("total_s") else "",
                ),
            ),
        )
    ]


def _ended(released: Released) -> list[Fact]:
    if released.ended is None:
        return [Fact(name="ended", value=None, text="not yet")]
    return [Fact(name="ended", value=released.ended.when)]


def _plan(kept: dict[str, Any]) -> list[Fact]:
    stages = (kept.get("plan") or {}).get("stages") or []
    if not stages:
        return []
    steps = ["a shadow" if s.get("shadow") else f"{word(s.get('share'))} %" for s in stages]
    return [Fact(name="stages", value=stages, text=", ".join(steps))]


def _moved(sources: Sources, released: Released) -> list[Story]:
    """Return the promotions and rollbacks that name this release as their reason."""
    moves = [
        entry
        for kind in ("promotion", "rollback")
        for entry in sources.entries(kind, released.model)
        if f"release {released.id}" in entry.because
    ]
    return [event(entry) for entry in sorted(moves, key=lambda entry: entry.at)]
