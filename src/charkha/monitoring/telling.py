"""Telling: alerts opened, changed and closed, each change sent once and kept in the ledger."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from charkha.monitoring.alerting.port import Alert, Destination
    from charkha.monitoring.causes import Cause
    from charkha.project import Project

KIND = "alert"  # of states, by the key of the cause, and of the ledger's decisions
LASTS_S = 900.0  # for so long a destination that forgets takes an alert for firing


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
        The alerts that fire, and those that were resolved by this call.

    Raises:
        Unavailable: the ledger does not answer. A destination that does not is logged, and is told
            at the next look.
    """
    raise NotImplementedError
