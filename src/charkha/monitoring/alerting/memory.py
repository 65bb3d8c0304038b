"""A destination in memory: for the tests of a project that tells alerts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from charkha.errors import Unavailable

if TYPE_CHECKING:
    from charkha.monitoring.alerting.port import Destination
    from charkha.monitoring.alerts import Alert


class MemoryDestination:
    """Keeps what it was sent in `alerts`; refuses all while `down`.

    Args:
        forgets: as of the port.
    """

    name = "memory"

    def __init__(self, *, forgets: bool = False) -> None:
        self.forgets = forgets
        self.alerts: list[Alert] = []
        self.down = False

    def send(self, alert: Alert, *, until: float) -> None:
        if self.down:
            raise Unavailable("the destination in memory is down")
        self.alerts.append(alert)


if TYPE_CHECKING:
    _destination: Destination = MemoryDestination()
