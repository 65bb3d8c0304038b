"""Destination: tell somebody of an alert, as often as it takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from charkha.monitoring.causes import Cause

Change = Literal["opened", "changed", "resolved"]


@dataclass(frozen=True, kw_only=True)
class Alert:
    """A cause that somebody is told of, from when it was first seen until it is gone."""

    id: str  # "al-7k2m9q"; `charkha why al-7k2m9q` tells its story
    cause: Cause  # as it was last seen
    change: Change  # the last thing that happened to it
    count: int  # of the changes, from 1; with `id` the same message has the same number
    opened_at: float  # unix seconds
    changed_at: float
    because: str  # why it is open, or why it no longer is

    @property
    def firing(self) -> bool:
        """Whether its cause is still there."""
        return self.change != "resolved"


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
