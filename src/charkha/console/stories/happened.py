"""What the ledger's entries say of a moment: who was champion, which release, drift and alerts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from charkha.console.stories.story import Fact, Next, Story, word

if TYPE_CHECKING:
    from charkha.console.stories.ledgers.port import Entry

TERMINAL = ("promoted", "rolled back", "aborted")


@dataclass(frozen=True, kw_only=True)
class Released:
    """One release, as its entries tell it, oldest first."""

    id: str
    model: str
    entries: tuple[Entry, ...]

    @property
    def baseline(self) -> int | None:
        """The version before."""
        return whole(self.entries[-1].numbers.get("from"))

    @property
    def candidate(self) -> int | None:
        """The version that is released."""
        return whole(self.entries[-1].numbers.get("to"))

    @property
    def strategy(self) -> str:
        """How: `canary`."""
        return self.entries[-1].text("strategy") or "release"

    @property
    def last(self) -> Entry:
        """The newest decision."""
        return self.entries[-1]

    @property
    def ended(self) -> Entry | None:
        """The decision that ended it; None while it goes on."""
        return self.last if self.last.numbers.get("phase") in TERMINAL else None

    def at(self, moment: float) -> Entry | None:
        """Return the decision that held at a moment; None before it began and after it ended."""
        before = [entry for entry in self.entries if entry.at <= moment]
        if not before or before[-1].numbers.get("phase") in TERMINAL:
            return None
        return before[-1]


@dataclass(frozen=True, kw_only=True)
class Alerted:
    """One alert, as its entries tell it, oldest first."""

    id: str
    subject: str
    entries: tuple[Entry, ...]

    @property
    def cause(self) -> str:
        """The key of what it is about: `drift/house-prices@3`."""
        return self.entries[-1].text("cause")

    @property
    def last(self) -> Entry:
        """The newest word."""
        return self.entries[-1]

    @property
    def resolved(self) -> Entry | None:
        """The entry that ended it."""
        return self.last if self.last.numbers.get("state") == "resolved" else None

    def at(self, moment: float) -> Entry | None:
        """Return what was said of it last at a moment; None where it was not open."""
        before = [entry for entry in self.entries if entry.at <= moment]
        if not before or before[-1].numbers.get("state") == "resolved":
            return None
        return before[-1]


def model_of(subject: str) -> str:
    """Return `house-prices` of `house-prices@3`."""
    return subject.partition("@")[0]


def number_of(subject: str) -> int | None:
    """Return 3 of `house-prices@3`."""
    return whole(subject.rpartition("@")[2])


def whole(value: object) -> int | None:
    """Return a whole number as one, whatever it stands in; None for what is none."""
    try:
        return int(str(value))
    except ValueError:
        return None


def releases(entries: Iterable[Entry]) -> list[Released]:
    """Return the releases that entries tell of, oldest first."""
    found: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        if entry.text("release"):
            found.setdefault((model_of(entry.subject), entry.text("release")), []).append(entry)
    return [
        Released(id=id, model=model, entries=tuple(told)) for (model, id), told in found.items()
    ]


def alerts(entries: Iterable[Entry]) -> list[Alerted]:
    """Return the alerts that entries tell of, oldest first."""
    found: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry.text("alert"):
            found.setdefault(entry.text("alert"), []).append(entry)
    return [
        Alerted(id=id, subject=told[-1].subject, entries=tuple(told)) for id, told in found.items()
    ]


def turns(entries: Iterable[Entry]) -> dict[str, tuple[Entry, ...]]:
    """Return the turns of the loop that entries tell of, oldest first."""
    found: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry.text("turn"):
            found.setdefault(entry.text("turn"), []).append(entry)
    return {id: tuple(told) for id, told in found.items()}


def champion_at(moves: Sequence[Entry], gates: Sequence[Entry], moment: float) -> int | None:
    """Return the version that was champion: the last that was moved there, else the first passed.

    Args:
        moves: promotions and rollbacks of the model, oldest first.
        gates: its gates' verdicts, oldest first.
        moment: unix seconds.
    """
    before = [entry for entry in moves if entry.at <= moment]
    if before:
        return number_of(before[-1].subject)
    later = [entry for entry in moves if entry.at > moment]
    if later:  # the first move says who was there until then
        return whole(later[0].numbers.get("from"))
    passed = [e for e in gates if e.at <= moment and verdict(e).get("passed")]
    return number_of(passed[0].subject) if passed else None


def verdict(gate: Entry) -> dict[str, Any]:
    """Return the gate's verdict in an entry."""
    told = gate.numbers.get("verdict")
    return told if isinstance(told, dict) else {}


def newest(entries: Sequence[Entry], moment: float) -> Entry | None:
    """Return the last entry until a moment, or the first after it; None where there is none."""
    before = [entry for entry in entries if entry.at <= moment]
    return before[-1] if before else (entries[0] if entries else None)


def windows_around(entries: Sequence[Entry], moment: datetime) -> list[tuple[str, Entry]]:
    """Return the verdicts of windows around a moment, each with where it lies.

    Those of windows with it inside; where there is none, the last before it and the first after.
    """
    timed = [(*window(entry), entry) for entry in entries]
    inside = [e for since, until, e in timed if since and until and since <= moment <= until]
    if inside:
        return [("window with it inside", inside[-1])]
    before = [e for _, until, e in timed if until and until < moment]
    after = [e for since, _, e in timed if since and since > moment]
    found = [("last window before it", before[-1])] if before else []
    return [*found, *([("first window after it", after[0])] if after else [])]


def window(entry: Entry) -> tuple[datetime | None, datetime | None]:
    """Return when the window that an entry judges begins and ends."""
    return _moment(entry.numbers.get("since")), _moment(entry.numbers.get("until"))


def event(entry: Entry) -> Story:
    """Return an entry as a line of a story."""
    state = entry.text("phase") or entry.text("state") or entry.text("outcome")
    reference = reference_of(entry)
    return Story(
        kind="event",
        id=reference,
        title=f"{entry.kind} of {entry.subject}" + (f": {state}" if state else ""),
        at=entry.when,
        because=(entry.because,),
        facts=(
            Fact(name="decision", value=entry.id, text=""),
            Fact(name="who", value=entry.who, text=""),
        ),
        next=(Next(reference=reference, what=entry.kind),),
    )


def reference_of(entry: Entry) -> str:
    """Return what to ask `charkha why` for, to hear all about an entry."""
    for name in ("release", "alert", "turn"):
        if entry.kind == {"turn": "loop"}.get(name, name) and entry.text(name):
            return entry.text(name)
    return entry.short


def numbers_as_facts(entry: Entry) -> tuple[Fact, ...]:
    """Return the numbers of an entry as facts; those that are trees are for `--json` alone."""
    return tuple(
        Fact(
            name=name,
            value=value,
            text="" if value is None or isinstance(value, dict | list) and value else word(value),
        )
        for name, value in entry.numbers.items()
    )


def _moment(text: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
