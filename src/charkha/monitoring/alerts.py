"""An alert from its opening to its end: a pure rule for what becomes of it at each look."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, Self

from charkha.monitoring.causes import Cause

Change = Literal["opened", "changed", "resolved"]


@dataclass(frozen=True, kw_only=True)
class Alert:
    """A cause that somebody is told of, from when it was first seen until it is gone."""

    id: str  # "al-7k2m9q"; `charkha why al-7k2m9q` tells its story
    cause: Cause  # as it was last seen
    change: Change  # the last thing that happened to it
    count: int  # of all changes of this cause, ever: what was sent is told apart by it
    opened_at: float  # unix seconds
    changed_at: float
    because: str  # of the last change

    @property
    def firing(self) -> bool:
        """Whether its cause is still there."""
        return self.change != "resolved"


@dataclass(frozen=True, kw_only=True)
class Kept:
    """An alert as it is kept between two looks."""

    alert: Alert
    scope: str  # of the last look that saw its cause: only that one can say that it is gone
    by: str  # whose look brought about the last change
    told: tuple[str, ...] = ()  # members of the state that were told since it opened
    sent: Mapping[str, tuple[int, float]] = field(default_factory=dict)  # where -> count, when

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read what `as_json` returned."""
        alert = value["alert"]
        cause = {**alert["cause"], "state": tuple(alert["cause"]["state"])}
        return cls(
            alert=Alert(**{**alert, "cause": Cause(**cause)}),
            scope=value["scope"],
            by=value["by"],
            told=tuple(value["told"]),
            sent={where: (count, at) for where, (count, at) in value["sent"].items()},
        )

    def was_sent(self, where: str, *, count: int, at: float) -> Kept:
        """Return it with what was told where."""
        return replace(self, sent={**self.sent, where: (count, at)})


def follow(kept: Kept | None, cause: Cause, *, scope: str, now: float, by: str) -> Kept:
    """Return what becomes of an alert whose cause is there.

    It opens where none fires; it changes where the cause has a member that was not told since it
    opened, or became critical; else only its words are kept up to date.
    """
    if kept is None or not kept.alert.firing:
        return _opened(kept, cause, scope=scope, now=now, by=by)
    alert = kept.alert
    new = [member for member in cause.state if member not in kept.told]
    worse = cause.severity == "critical" and alert.cause.severity != "critical"
    if not new and not worse:
        silent = replace(cause, severity=alert.cause.severity)
        return replace(kept, alert=replace(alert, cause=silent), scope=scope)
    added = f"now {', '.join(new)} as well" if new else "now critical"
    changed = replace(
        alert,
        cause=cause,
        change="changed",
        count=alert.count + 1,
        changed_at=now,
        because=f"{added}: {cause.text}",
    )
    return replace(kept, alert=changed, scope=scope, by=by, told=(*kept.told, *new))


def resolve(kept: Kept, *, now: float, by: str) -> Kept:
    """Return an alert whose cause is gone."""
    alert = kept.alert
    if not alert.firing:
        return kept
    resolved = replace(
        alert,
        change="resolved",
        count=alert.count + 1,
        changed_at=now,
        because=f"the last look did not find it any more: {alert.cause.title}",
    )
    return replace(kept, alert=resolved, by=by)


def _opened(kept: Kept | None, cause: Cause, *, scope: str, now: float, by: str) -> Kept:
    count = 1 if kept is None else kept.alert.count + 1
    alert = Alert(
        id=_id(cause.key, count, now),
        cause=cause,
        change="opened",
        count=count,
        opened_at=now,
        changed_at=now,
        because=cause.text,
    )
    sent = {} if kept is None else kept.sent
    return Kept(alert=alert, scope=scope, by=by, told=cause.state, sent=sent)


def _id(key: str, count: int, now: float) -> str:
    """Return an id that can be typed: seven of 32 letters and digits, none of which is 0, 1, 8 or 9."""
    digest = hashlib.sha256(f"{key}\n{count}\n{now!r}".encode()).digest()
    return f"al-{base64.b32encode(digest[:5]).decode().lower()[:7]}"
