"""Destination: tell somebody of an alert, as often as it takes."""

from __future__ import annotations

from typing import Protocol

from charkha.monitoring.alerts import Alert


class Destination(Protocol):
    """Somewhere that alerts go to.

    Attributes:
        name: of the destination, `webhook`; in states and in messages.
        forgets: whether it takes an alert for resolved if it is not sent again before `until`.
    """

    name: str
    forgets: bool

    def send(self, alert: Alert, *, until: float) -> None:
        """Tell of the alert's last change; the same again does no harm beyond a second message.

        Args:
            alert: as it is now.
            until: unix seconds at which it may be forgotten unless it is sent again.

        Raises:
            Unavailable: it did not answer, or could not now.
            BackendError: it refused.
            UserError: it cannot be reached as the settings have it.
        """
        ...
