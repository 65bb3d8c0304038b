"""The story of a prediction: its record, inputs, variant, version, gate, run, truth, and after."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from charkha.clock import to_second
from charkha.console.stories.arms import Known, arms_of_file, arms_of_release, tell_arm
from charkha.console.stories.happened import (
    alerts,
    champion_at,
    event,
    releases,
    windows_around,
)
from charkha.console.stories.placing import UNUSUAL, Placed, place
from charkha.console.stories.release import release_part
from charkha.console.stories.run import run_part
from charkha.console.stories.story import Fact, Next, Story, number, span, word
from charkha.console.stories.version import gate_part, version_part

if TYPE_CHECKING:
    from charkha.console.stories.happened import Released
    from charkha.console.stories.ledgers.port import Entry
    from charkha.console.stories.recorded import Recorded, Remembered, Truth
    from charkha.console.stories.sources import Sources
    from charkha.data.profiles.profile import Profile

_AFTER = 8  # decisions that came later
_TURNS = ("promotion", "rollback", "release", "loop", "alert", "gate")  # what may come after


def tell_prediction(sources: Sources, found: Remembered) -> Story:
    """Tell all that is known of one prediction."""
    record = found.live or found.shadows[0]
    at = record.at.timestamp()
    version = sources.version(record.model, record.version)
    profile = sources.profile(version) if version is not None else None
    redacted = frozenset(sources.project.records.redact)
    released = _released(sources, record, at)
    parts = [
        _inputs(record, profile, redacted),
        tell_arm(record, _known(sources, record, released, at)),
        *(_shadow(each, record) for each in found.shadows if each is not record),
        version_part(sources, record.model, record.version, at),
        *([release_part(released, at)] if released else []),
        *gate_part(sources, record.model, record.version, at),
        *(run_part(sources, version.tags.get("charkha.run", "")) if version else ()),
        *_windows(sources, record, "drift"),
        *_windows(sources, record, "performance"),
        *_alerts(sources, record, at),
        _truth(found.truths, record, redacted),
        _afterwards(sources, record, at),
    ]
    told = Story(
        kind="prediction",
        id=record.id,
        title=f"{record.model}@{record.version} said {_value(record.prediction, record, redacted)}",
        at=record.at,
        facts=tuple(_facts(record, profile, redacted)),
        parts=(*parts, *sources.silence()),
    )
    return replace(told, next=_next(told, record))


def _released(sources: Sources, record: Recorded, at: float) -> tuple[Released, Entry] | None:
    """Return the release of the model that went on then, and its decision that held."""
    for released in releases(sources.entries("release", record.model)):
        entry = released.at(at)
        if entry is not None:
            return released, entry
    return None


def _known(
    sources: Sources, record: Recorded, told: tuple[Released, Entry] | None, at: float
) -> Known | None:
    held = arms_of_file(sources.held(record.model), at)
    if held is not None or told is None:
        return held
    released, entry = told
    moves = [e for e in sources.entries("promotion", record.model) if e.at <= at]
    champion = champion_at(moves, (), at)
    known = arms_of_release(released, entry, champion)
    return known and replace(known, settling_s=at - entry.at)


def _facts(record: Recorded, profile: Profile | None, redacted: frozenset[str]) -> Iterator[Fact]:
    yield Fact(name="asked", value=record.at, text=record.at.strftime("%Y-%m-%d %H:%M:%S.%fZ"))
    yield Fact(
        name="answer", value=record.prediction, text=_value(record.prediction, record, redacted)
    )
    if profile is not None and record.prediction is not None:
        placed = place(record.prediction, profile.columns.get("prediction"))
        if placed.where != "unknown":
            text = placed.text.replace("of training is", "of its held-out predictions are")
            value = {"where": placed.where, "quantile": placed.quantile, "share": placed.share}
            yield Fact(name="the answer lies", value=value, text=text)
    if record.probabilities:
        yield Fact(name="probabilities", value=dict(record.probabilities))
    yield Fact(name="latency_s", value=record.latency_s, text="")
    yield Fact(name="took", value=span(record.latency_s), text=span(record.latency_s))
    yield Fact(name="key", value=record.key, text="" if record.key is None else record.key)
    if record.entities:
        yield Fact(name="about", value=dict(record.entities))


def _value(value: Any, record: Recorded, redacted: frozenset[str]) -> str:
    if value is None and record.target in redacted:
        return "what is redacted"
    return word(float(value) if type(value) is int and abs(value) >= 1000 else value)


@dataclass(frozen=True, kw_only=True)
class _Input:
    name: str
    value: Any
    placed: Placed


def _inputs(record: Recorded, profile: Profile | None, redacted: frozenset[str]) -> Story:
    columns = profile.columns if profile is not None else {}
    found = [
        _Input(
            name=name,
            value=value,
            placed=place(value, columns.get(f"input.{name}"), redacted=name in redacted),
        )
        for name, value in record.inputs.items()
    ]
    odd = [each for each in found if each.placed.where in UNUSUAL]
    usual = [each for each in found if each.placed.where not in UNUSUAL]
    because = tuple(f"{each.name} = {word(each.value)}: {each.placed.text}" for each in odd)
    if profile is None:
        because = ("there is no profile of its training to hold them against",)
    elif not odd:
        because = ("all of them are usual for its training",)
    title = f"{len(found)} inputs" + (f", {len(odd)} unusual for its training" if odd else "")
    return Story(
        kind="inputs",
        id=record.id,
        title=title,
        because=because,
        facts=tuple(_input(each, text=each in usual) for each in [*odd, *usual]),
    )


def _input(each: _Input, *, text: bool) -> Fact:
    placed = each.placed
    value = {
        "value": each.value,
        "where": placed.where,
        "quantile": placed.quantile,
        "share": placed.share,
        "text": placed.text,
    }
    return Fact(name=each.name, value=value, text=_short(each) if text else "")


def _short(each: _Input) -> str:
    placed = each.placed
    if placed.where == "redacted":
        return "redacted"
    if placed.quantile is not None:
        return f"{word(each.value)} (q {placed.quantile:.2f})"
    if placed.share is not None:
        return f"{word(each.value)} ({placed.share * 100:.0f} %)"
    return word(each.value)


def _shadow(shadow: Recorded, live: Recorded) -> Story:
    said = f"version {shadow.version} followed as a shadow ({shadow.variant}) and said "
    facts = [
        Fact(name="version", value=shadow.version, text=""),
        Fact(name="variant", value=shadow.variant, text=""),
        Fact(name="prediction", value=shadow.prediction, text=""),
    ]
    both = (shadow.prediction, live.prediction)
    if all(isinstance(v, int | float) and not isinstance(v, bool) for v in both):
        apart = shadow.prediction - live.prediction
        facts.append(Fact(name="apart", value=apart, text=f"{'+' * (apart > 0)}{number(apart)}"))
    return Story(
        kind="answer",
        id=f"{shadow.model}@{shadow.version}",
        title=f"{said}{word(shadow.prediction)}",
        at=shadow.at,
        facts=tuple(facts),
        next=(Next(reference=f"{shadow.model}@{shadow.version}", what="the shadow's version"),),
    )


def _windows(sources: Sources, record: Recorded, kind: Any) -> Iterator[Story]:
    """Yield the verdicts on the windows around this prediction."""
    entries = sources.entries(kind, f"{record.model}@{record.version}")
    around = windows_around([e for e in entries if not e.text("segment")], record.at)
    for where, entry in around:
        facts = (
            Fact(name="decision", value=entry.id, text=""),
            Fact(name="outcome", value=entry.numbers.get("outcome"), text=""),
            Fact(name="drifted", value=entry.numbers.get("drifted"), text=""),
            Fact(name="since", value=entry.numbers.get("since"), text=""),
            Fact(name="until", value=entry.numbers.get("until"), text=""),
        )
        outcome = entry.text("outcome")
        yield Story(
            kind=kind,
            id=entry.short,
            title=f"{kind} in the {where}" + (f": {outcome}" if outcome else ""),
            at=entry.when,
            because=(entry.because.removeprefix(f"{outcome}: "),),
            facts=facts,
            next=(Next(reference=entry.short, what=f"that verdict on {kind}"),),
        )
    if not around and kind == "drift":
        because = f"nobody has checked: charkha monitor check {record.model}@{record.version}"
        yield Story(kind=kind, id="", title="drift is not known", because=(because,))


def _alerts(sources: Sources, record: Recorded, at: float) -> Iterator[Story]:
    for alert in alerts(sources.entries("alert", record.model)):
        entry = alert.at(at)
        if entry is None:
            continue
        resolved = (
            f", resolved {to_second(alert.resolved.when)}" if alert.resolved else ", open still"
        )
        severity = entry.text("severity")
        yield Story(
            kind="alert",
            id=alert.id,
            title=f"{severity or 'an'} alert was open: {alert.cause}{resolved}",
            at=alert.entries[0].when,
            because=(entry.because,),
            facts=(
                Fact(name="alert", value=alert.id, text=""),
                Fact(name="cause", value=alert.cause, text=""),
                Fact(name="severity", value=severity or None, text=""),
            ),
            next=(Next(reference=alert.id, what="the alert"),),
        )


def _truth(truths: tuple[Truth, ...], record: Recorded, redacted: frozenset[str]) -> Story:
    if not truths:
        return Story(
            kind="truth", id=record.id, title="what is true is not known yet: no feedback came"
        )
    last = truths[-1]
    late = (last.received - record.at).total_seconds()
    facts = [
        Fact(name="ground_truth", value=last.value, text=""),
        Fact(name="ground_truth_time", value=last.at, text=to_second(last.at)),
        Fact(name="received", value=last.received, text=f"{span(max(late, 0.0))} after the answer"),
    ]
    said, both = "", (last.value, record.prediction)
    if all(isinstance(v, int | float) and not isinstance(v, bool) for v in both):
        error = record.prediction - last.value
        share = f" ({abs(error / last.value):.1%})".replace("%", " %") if last.value else ""
        size = f"{number(abs(error))}{share} too {'high' if error > 0 else 'low'}"
        said = f"; the answer was {size if error else 'right'}"
        facts.append(Fact(name="error", value=error, text=""))
    elif record.prediction is not None:
        right = last.value == record.prediction
        said = f"; the answer was {'right' if right else 'wrong'}"
        facts.append(Fact(name="right", value=right, text=""))
    if len(truths) > 1:
        facts.append(Fact(name="told before", value=[t.value for t in truths[:-1]]))
    truth = _value(last.value, record, redacted)
    return Story(
        kind="truth",
        id=record.id,
        title=f"it turned out to be {truth}{said}",
        at=last.received,
        facts=tuple(facts),
    )


def _afterwards(sources: Sources, record: Recorded, at: float) -> Story:
    """Return what was decided about the model later, as far as a few lines go."""
    later = [
        entry for kind in _TURNS for entry in sources.entries(kind, record.model) if entry.at > at
    ]
    later.sort(key=lambda entry: entry.at)
    shown, more = later[:_AFTER], len(later) - _AFTER
    because = ("nothing was decided about the model since",) if not later else ()
    if more > 0:
        because = (f"and {more} more decisions, the last {to_second(later[-1].when)}",)
    return Story(
        kind="afterwards",
        id=record.model,
        title="what happened afterwards",
        because=because,
        parts=tuple(event(entry) for entry in shown),
    )


def _next(story: Story, record: Recorded) -> tuple[Next, ...]:
    """Return where to go on: what the parts lead to, each once, and the raw record."""
    found = {n.reference: n for part in story.parts for n in part.next}
    later = story.part("afterwards")
    for part in later.parts if later else ():
        for n in part.next:
            found.setdefault(n.reference, n)
    return tuple(found.values())
