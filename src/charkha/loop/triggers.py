"""Whether to train again: a decision on signals, cool-downs and budgets, with its reason."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from charkha.errors import ProjectError
from charkha.project import TriggerSettings

Kind = Literal["person", "performance", "drift", "data", "schedule"]
ORDER: tuple[Kind, ...] = ("person", "performance", "drift", "data", "schedule")
DEFAULT = (TriggerSettings(on="performance"), TriggerSettings(on="drift"))
_COOL_DOWN_S = 86_400.0
BUDGET_S = 30 * 86_400.0  # in which a trigger's budget is counted


@dataclass(frozen=True, kw_only=True)
class Signal:
    """What was seen of one trigger."""

    kind: Kind
    fires: bool
    because: str
    since: float | None = None  # unix seconds: when what it saw began
    request: str | None = None  # of a person: which one


@dataclass(frozen=True, kw_only=True)
class Begun:
    """A turn that was begun before."""

    trigger: Kind
    at: float  # unix seconds: when it ended; while it goes on, when it began


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Whether to begin a turn."""

    retrain: bool
    because: str
    signal: Signal | None = None  # the one that began it


def triggers_of(settings: Sequence[TriggerSettings]) -> tuple[TriggerSettings, ...]:
    """Return the triggers of a project: its own, else drift and lower performance.

    Raises:
        ProjectError: two are of one kind.
    """
    kinds = [trigger.on for trigger in settings]
    for kind in kinds:
        if kinds.count(kind) > 1:
            raise ProjectError(
                f"two triggers are on {kind!r}, and one would not be looked at",
                where="charkha.toml, [[trigger]]",
                fix="make them one; a schedule may name several hours or days: 0 3,15 * * 1,4",
            )
    return tuple(settings) or DEFAULT


def decide(
    signals: Iterable[Signal],
    triggers: Sequence[TriggerSettings],
    begun: Sequence[Begun],
    now: float,
    *,
    new_labels: int = 0,
) -> Choice:
    """Decide on a turn: the first signal that fires and is not held back begins it.

    A person is never held back. What a clock that went back put into the future holds nothing back
    for longer than twice a cool-down.

    Args:
        signals: what was seen, of each trigger at most once.
        triggers: with their cool-downs and budgets.
        begun: the turns of the last 30 days, in any order.
        now: unix seconds.
        new_labels: ground truths that came since the last turn began.
    """
    by_kind = {s.kind: s for s in signals}
    seen = [by_kind[kind] for kind in ORDER if kind in by_kind]
    firing = [s for s in seen if s.fires]
    held = []
    for signal in firing:
        why = _held(signal, triggers, begun, now, new_labels)
        if why is None:
            return Choice(retrain=True, because=f"{signal.kind}: {signal.because}", signal=signal)
        held.append(f"{signal.kind}: {signal.because}; {why}")
    if held:
        return Choice(retrain=False, because="; ".join(held))
    quiet = "; ".join(f"{s.kind}: {s.because}" for s in seen if s.kind != "person")
    return Choice(retrain=False, because=quiet or "there is nothing to look at")


def cool_down_of(trigger: TriggerSettings) -> float:
    """Return for how many seconds a trigger cools down; a schedule is its own pace."""
    if trigger.cool_down_s is not None:
        return trigger.cool_down_s
    return 0.0 if trigger.on == "schedule" else _COOL_DOWN_S


def _held(
    signal: Signal,
    triggers: Sequence[TriggerSettings],
    begun: Sequence[Begun],
    now: float,
    new_labels: int,
) -> str | None:
    """Return why a trigger that fires may not begin a turn yet; None where it may."""
    if signal.kind == "person":
        return None
    rules = next((t for t in triggers if t.on == signal.kind), None)
    if rules is None:
        return "no [[trigger]] is on for it"
    ages = [abs(now - turn.at) for turn in begun]
    cool_down_s = cool_down_of(rules)
    if ages and min(ages) < cool_down_s:
        left = cool_down_s - min(ages)
        return f"but the last turn was {_span(min(ages))} ago, and it cools down {_span(left)} more"
    if signal.kind != "data" and rules.labels is not None and new_labels < rules.labels:
        return (
            f"but of the {rules.labels:,} new ground truths that it takes, {new_labels:,} are there"
        )
    spent = sum(turn.trigger == signal.kind and abs(now - turn.at) < BUDGET_S for turn in begun)
    if spent >= rules.budget:
        return f"but its budget is spent: {spent} of {rules.budget} turns in 30 days"
    return None


def _span(seconds: float) -> str:
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
