"""Telling: alerts opened, changed and closed, each change sent once and kept in the ledger.

What became of an alert is kept before anybody is told, under the revision that was read, and after each
sending that it was sent. A lease for each cause keeps a second watcher from sending meanwhile. Who is
killed in between has sent it or not: the next look sends it again. A destination that does not answer
is asked again at each look; what it missed is told by its newest change.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from charkha.errors import BackendError, UserError
from charkha.ledger import Decision, Ledger, ledger_url, open_ledger, who_acts
from charkha.monitoring.alerting import open_destinations
from charkha.monitoring.alerts import Kept, follow, resolve
from charkha.states import States

if TYPE_CHECKING:
    from charkha.monitoring.alerting.port import Destination
    from charkha.monitoring.alerts import Alert
    from charkha.monitoring.causes import Cause
    from charkha.project import Project

KIND = "alert"  # of states, by the key of the cause, and of the ledger's decisions
LASTS_S = 900.0  # for so long a destination that forgets takes an alert for firing
LEASE_S = 60.0  # whoever takes over from a killed one waits so long
_LEDGER = "ledger"  # among what was sent

_log = logging.getLogger(__name__)


def tell(
    project: Project,
    causes: Sequence[Cause],
    *,
    scope: str,
    unknown: Collection[str] = (),
    now: float | None = None,
    lasts_s: float = LASTS_S,
    destinations: Sequence[Destination] | None = None,
) -> list[Alert]:
    """Open, change and resolve the alerts of a scope, and send what was not sent yet.

    Args:
        project: whose ledger and `[alerts]` are used.
        causes: all that are there now in the scope; what is not among them is resolved.
        scope: who looked: `house-prices` (its champion), `house-prices@3`, `loop/house-prices`.
        unknown: keys of causes of which this look could not tell; their alerts stay as they are.
        now: unix seconds.
        lasts_s: until then there will have been another look.
        destinations: where to; those of the settings without it.

    Returns:
        The alerts of the scope that fire, and those that this call resolved.

    Raises:
        Unavailable: the ledger does not answer. A destination that does not is logged, and is told
            at the next look.
    """
    states, ledger = States(ledger_url(project)), open_ledger(project)
    try:
        teller = _Teller(
            states,
            ledger,
            open_destinations(project) if destinations is None else destinations,
            scope=scope,
            now=time.time() if now is None else now,
            lasts_s=lasts_s,
        )
        return teller.tell({cause.key: cause for cause in causes}, frozenset(unknown))
    finally:
        states.close()
        ledger.close()


def alerts_of(project: Project, model: str | None = None) -> list[Alert]:
    """Return the alerts that fire, of one model or of all, the oldest first.

    Raises:
        Unavailable: the ledger does not answer.
    """
    states = States(ledger_url(project))
    try:
        found = [Kept.from_json(kept.value).alert for kept in states.all(KIND)]
    finally:
        states.close()
    mine = [a for a in found if model in (None, a.cause.subject.partition("@")[0])]
    return sorted((a for a in mine if a.firing), key=lambda a: (a.opened_at, a.id))


class _Teller:
    def __init__(
        self,
        states: States,
        ledger: Ledger,
        destinations: Sequence[Destination],
        *,
        scope: str,
        now: float,
        lasts_s: float,
    ) -> None:
        self._states, self._ledger, self._destinations = states, ledger, destinations
        self._scope, self._now, self._lasts_s = scope, now, lasts_s
        self._owner, self._by = uuid.uuid4().hex, who_acts()
        self._silent: set[str] = set()  # destinations that have failed in this call

    def tell(self, causes: dict[str, Cause], unknown: frozenset[str]) -> list[Alert]:
        kept = {found.key: Kept.from_json(found.value) for found in self._states.all(KIND)}
        ours = {key for key, each in kept.items() if each.scope == self._scope}
        told = []
        for key in sorted({*causes, *ours}):
            before = kept.get(key)
            alert = self._one(key, causes.get(key), leave=key in unknown) or (
                before.alert if before else None
            )
            if alert and (alert.firing or (before and before.alert.firing)):
                told.append(alert)
        return told

    def _one(self, key: str, cause: Cause | None, *, leave: bool) -> Alert | None:
        """Bring one alert up to date, and send it; None where another watcher is at it."""
        lease = f"alert/{key}"
        if not self._states.take(lease, self._owner, now=self._now, for_s=LEASE_S):
            return None
        try:
            found = self._states.read(KIND, key)
            before = None if found is None else Kept.from_json(found.value)
            after = self._followed(before, cause, leave=leave)
            if after is None:
                return None
            revision = 0 if found is None else found.revision
            if after != before:
                if not self._states.write(KIND, key, after.as_json(), after=revision):
                    return None
                revision += 1
            self._send(key, after, revision)
            return after.alert
        finally:
            self._states.give_back(lease, self._owner)

    def _followed(self, kept: Kept | None, cause: Cause | None, *, leave: bool) -> Kept | None:
        if cause is not None:
            return follow(kept, cause, scope=self._scope, now=self._now, by=self._by)
        if kept is None or leave or kept.scope != self._scope:
            return kept
        return resolve(kept, now=self._now, by=self._by)

    def _send(self, key: str, kept: Kept, revision: int) -> None:
        """Send the last change to everybody who has not had it, and keep that after each."""
        count = kept.alert.count
        if kept.sent.get(_LEDGER, (0, 0.0))[0] < count:
            self._ledger.record(decision(kept))
            kept = kept.was_sent(_LEDGER, count=count, at=self._now)
            if not self._states.write(KIND, key, kept.as_json(), after=revision):
                return
            revision += 1
        for destination in self._destinations:
            if not self._wants(destination, kept) or not self._sent(destination, kept.alert):
                continue
            kept = kept.was_sent(destination.name, count=count, at=self._now)
            if not self._states.write(KIND, key, kept.as_json(), after=revision):
                return
            revision += 1

    def _wants(self, destination: Destination, kept: Kept) -> bool:
        count, at = kept.sent.get(destination.name, (0, 0.0))
        if count < kept.alert.count:
            return True
        return destination.forgets and kept.alert.firing and self._now - at >= self._lasts_s / 3

    def _sent(self, destination: Destination, alert: Alert) -> bool:
        if destination.name in self._silent:
            return False
        try:
            destination.send(alert, until=self._now + self._lasts_s)
        except (BackendError, UserError) as e:
            self._silent.add(destination.name)
            _log.warning(
                "alert %s (%s) was not told, and is again at the next look: %s",
                alert.id,
                alert.change,
                e,
            )
            return False
        return True


def decision(kept: Kept) -> Decision:
    """Return what the ledger says of the last change of an alert: the same, whoever asks."""
    alert, cause = kept.alert, kept.alert.cause
    return Decision(
        at=alert.changed_at,
        kind=KIND,
        subject=cause.subject,
        because=f"{alert.change}: {alert.because}",
        numbers={
            "alert": alert.id,
            "cause": cause.key,
            "title": cause.title,
            "severity": cause.severity,
            "state": alert.change,  # "resolved" where it is over
            "members": list(cause.state),
            "opened_at": alert.opened_at,
            **{name: value for name, value in cause.numbers.items() if name not in _OWN},
        },
        who=kept.by,
    )


_OWN = {"alert", "cause", "title", "severity", "state", "members", "opened_at"}
