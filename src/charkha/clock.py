"""How moments are written for people: in UTC and marked so, on every machine and in every command.

What is written here can be laid beside a record, an alert, a schedule or the log of another machine.
JSON has moments in ISO 8601, or as seconds since 1970, and none of these forms.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

_FIRST = re.compile(r"(\d{4}-\d\d-\d\d )?\d\d:\d\d:\d\dZ  ")


def to_second(at: datetime | float) -> str:
    """Return a moment, or seconds since 1970, as `2026-11-23 22:45:01Z`."""
    return f"{_in_utc(at):%Y-%m-%d %H:%M:%SZ}"


def to_minute(at: datetime | float) -> str:
    """Return `2026-11-23 22:45Z`."""
    return f"{_in_utc(at):%Y-%m-%d %H:%MZ}"


def of_day(at: datetime | float) -> str:
    """Return `22:45:01Z`: for lines of a log that a person follows."""
    return f"{_in_utc(at):%H:%M:%SZ}"


def between(since: datetime, until: datetime) -> str:
    """Return `2026-11-23 22:45Z to 23:10Z`, with the second day where it is another one."""
    first, last = _in_utc(since), _in_utc(until)
    end = f"{last:%H:%MZ}" if first.date() == last.date() else to_minute(last)
    return f"{to_minute(first)} to {end}"


def without(line: str) -> str:
    """Return a line without the moment that it begins with, for a log that writes its own."""
    found = _FIRST.match(line)
    return line[found.end() :] if found else line


def _in_utc(at: datetime | float) -> datetime:
    return at.astimezone(UTC) if isinstance(at, datetime) else datetime.fromtimestamp(at, UTC)
