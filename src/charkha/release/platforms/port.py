"""Platform: what answers now, and how to change who answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, kw_only=True)
class Arm:
    """A version that is held under a name."""

    name: str
    version: int
    share: float  # of all shares, in parts of 100; 0 for a shadow
    shadow: bool = False
    follows: str | None = None  # an alias of the registry, with which its version moves


class Platform(Protocol):
    """Something that answers requests with several versions of one model.

    Every method may be called again with the same arguments; what is done already is no error.

    Raises:
        Unavailable: (every method) it does not answer, or has not done it in time.
        Refused: (every method that changes something) it cannot do that, and has changed nothing.
    """

    def holds(self) -> tuple[Arm, ...]:
        """Return what is held, by everybody who answers."""
        ...

    def add(self, name: str, version: int, *, shadow: bool) -> None:
        """Hold a version, without a share; returns once it could answer."""
        ...

    def set_shares(self, shares: Mapping[str, float]) -> None:
        """Share the traffic; who is not named gets nothing. Returns once it is so."""
        ...

    def drop(self, name: str) -> None:
        """Hold a version no longer; what it was asked is answered first."""
        ...

    def failures(self) -> Mapping[int, int]:
        """Return how many requests each version failed, since a start that may be its own."""
        ...
