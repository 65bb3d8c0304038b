"""Moments as people write them: `7d`, `2026-11-24`, `2026-11-24T10:00:00+02:00`; all in UTC."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from charkha.errors import UserError

_AGO = re.compile(r"(\d+(?:\.\d+)?) ?(s|min|h|d|w)")
_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}
_FIX = "write 7d, 12h, 30min, 2026-11-24 or 2026-11-24T10:00:00Z"


def moment_of(given: str | datetime, now: datetime | None = None) -> datetime:
    """Return a moment in UTC: so long before `now`, or a date or moment, UTC where it has no zone.

    Raises:
        UserError: it is neither.
    """
    try:
        if isinstance(given, datetime):
            return _in_utc(given)
        if ago := _AGO.fullmatch(given.strip()):
            span = timedelta(seconds=float(ago[1]) * _SECONDS[ago[2]])
            return (now or datetime.now(UTC)) - span
        return _in_utc(datetime.fromisoformat(given.strip()))
    except (ValueError, OverflowError) as e:
        raise UserError(f"{given!r} is no moment", fix=_FIX) from e


def _in_utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
