"""When a part that died is started again, and when it is given up: rules on values alone."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter

from charkha.supervision.parts import Part

WINDOW_S = 60.0  # deaths that are longer ago do not count
MOST = 5  # deaths within that time, and it is given up
FIRST_S = 0.5  # until it is started again after the first one; twice as long after each other


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What follows from a death."""

    again_s: float | None  # until it is started again; None: it is given up
    because: str


def after_death(deaths: Sequence[float], now: float) -> Verdict:
    """Decide on a part that died at these moments, the last of which is now.

    Args:
        deaths: in seconds of a monotonic clock.
        now: on the same clock.
    """
    recent = sum(now - at < WINDOW_S for at in deaths)
    if recent >= MOST:
        return Verdict(again_s=None, because=f"it died {recent} times within {WINDOW_S:g} s")
    again_s = FIRST_S * 2 ** max(recent - 1, 0)
    return Verdict(
        again_s=again_s, because=f"it died {_times(recent)} within the last {WINDOW_S:g} s"
    )


def ending_of(code: int) -> str:
    """Return how a process ended, in words; a negative code is a signal, as in `subprocess`."""
    if code >= 0:
        return f"it ended with {code}"
    try:
        return f"it was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"it was killed by signal {-code}"


def order_of_ending(parts: Iterable[Part]) -> list[list[Part]]:
    """Return the parts in groups: those of one are ended together, once those before are gone."""
    ends = attrgetter("ends")
    return [list(group) for _, group in groupby(sorted(parts, key=ends), ends)]


def _times(count: int) -> str:
    return "once" if count <= 1 else f"{count} times"
