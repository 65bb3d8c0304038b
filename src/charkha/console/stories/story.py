"""A story: a tree of facts with their times, for a terminal, a browser and `--json` alike."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from charkha.clock import to_second

Kind = Literal[
    "prediction", "run", "step", "version", "release", "alert", "turn", "decision",
    # parts of them:
    "inputs", "arm", "answer", "gate", "drift", "performance", "truth", "afterwards", "event",
    "silence", "matches",
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Fact:
    """One thing that is the case."""

    name: str
    value: object  # what JSON can hold, and moments
    text: str | None = None  # how a person reads it; "": the sentences say it already


@dataclass(frozen=True, kw_only=True)
class Next:
    """Something to ask for after this."""

    reference: str  # as `charkha why` takes it
    what: str  # "the version that answered"


@dataclass(frozen=True, kw_only=True)
class Story:
    """What is known of one thing, and why it is so."""

    kind: Kind
    id: str  # as `charkha why` takes it, where it does; else a name
    title: str
    at: datetime | None = None  # UTC
    because: tuple[str, ...] = ()  # sentences
    facts: tuple[Fact, ...] = ()
    parts: tuple[Story, ...] = ()
    next: tuple[Next, ...] = ()

    def value(self, name: str) -> object:
        """Return the value of a fact; None where there is none."""
        return next((fact.value for fact in self.facts if fact.name == name), None)

    def part(self, kind: Kind) -> Story | None:
        """Return the first part of a kind."""
        return next((part for part in self.parts if part.kind == kind), None)

    def as_json(self) -> dict[str, object]:
        """Return plain data."""
        return {
            "kind": self.kind,
            "id": self.id,
            "title": self.title,
            "at": plain(self.at),
            "because": list(self.because),
            "facts": [
                {"name": f.name, "value": plain(f.value), "text": said(f)} for f in self.facts
            ],
            "parts": [part.as_json() for part in self.parts],
            "next": [{"reference": n.reference, "what": n.what} for n in self.next],
        }


def said(fact: Fact) -> str:
    """Return how a person reads the value of a fact."""
    return fact.text or word(fact.value)


def plain(value: object) -> object:
    """Return a value as JSON can hold it: moments in ISO 8601, what is not finite as text."""
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)


def word(value: object) -> str:
    """Return a value for people."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return number(value)
    if isinstance(value, datetime):
        return to_second(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={word(item)}" for name, item in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(word, value)) or "none"
    return str(value)


def number(value: float) -> str:
    """Return a number with the digits that matter: `181,000`, `1,500.5`, `-93.64`, `0.0213`."""
    if not math.isfinite(value):
        return repr(value)
    if abs(value) >= 1e15:
        return f"{value:.4g}"
    if abs(value) >= 10_000:
        return f"{value:,.0f}"
    return f"{value:,.1f}".removesuffix(".0") if abs(value) >= 1000 else f"{value:.4g}"


def utc(unix: float) -> datetime:
    """Return seconds since 1970 as a moment in UTC."""
    return datetime.fromtimestamp(unix, UTC)


def span(seconds: float) -> str:
    """Return how long something took, or how long ago it was."""
    if seconds < 1:
        return f"{seconds * 1000:.3g} ms"
    for size, unit in ((86_400.0, "days"), (3600.0, "h"), (60.0, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.3g} s"


def several(items: Sequence[str], most: int) -> str:
    """Return the first items, and how many there are beside them."""
    more = len(items) - most
    return ", ".join(items[:most]) + (f" and {more} more" if more > 0 else "")


def every(story: Story) -> Iterator[Story]:
    """Yield a story and all its parts."""
    yield story
    for part in story.parts:
        yield from every(part)
