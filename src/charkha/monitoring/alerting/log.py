"""The log: alerts as lines of Python's logging, wherever that goes."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from charkha.monitoring.alerting.port import Destination
    from charkha.monitoring.alerts import Alert

_log = logging.getLogger("charkha.alerts")
_LEVELS = {"warning": logging.WARNING, "critical": logging.CRITICAL}


class LogDestination:
    """Python's logging, under the name `charkha.alerts`."""

    name = "log"
    forgets = False

    def send(self, alert: Alert, *, until: float) -> None:
        level = _LEVELS[alert.cause.severity] if alert.firing else logging.INFO
        cause = alert.cause
        _log.log(
            level,
            "%s %s: %s: %s: %s",
            alert.id,
            alert.change,
            cause.subject,
            cause.title,
            alert.because if alert.firing else "its cause is gone",
        )


if TYPE_CHECKING:
    _destination: Destination = LogDestination()
