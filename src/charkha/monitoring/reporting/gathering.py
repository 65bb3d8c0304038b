"""Gathering: everything that a report on a version tells, read once."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

from charkha.data.profiles.window import summarise
from charkha.errors import MissingExtra, UserError
from charkha.models.profiled import PREDICTION, TRUTH
from charkha.models.registry import find_version
from charkha.monitoring.checking import Observed, check_observed, ignored_by, observe
from charkha.monitoring.explaining import explain_change
from charkha.monitoring.measuring import measure_performance
from charkha.monitoring.reporting.moments import Moment, story
from charkha.monitoring.telling import alerts_of
from charkha.monitoring.windows import cut, size_of
from charkha.serving.records.moments import moment_of

if TYPE_CHECKING:
    from charkha.data.profiles.profile import Column, ColumnSeen
    from charkha.monitoring.alerts import Alert
    from charkha.monitoring.checking import Checked
    from charkha.monitoring.explaining import Explained
    from charkha.monitoring.performance import Performance
    from charkha.project import Project

_WINDOWS = 24  # at most, where nobody says how large they are
_LEAST = 1000  # rows of one of those
_MOMENTS = 200  # the newest of the story
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Gathered:
    """What a report is made of."""

    version: str  # "house-prices@3"
    project: str
    made_at: datetime
    since: datetime | None
    until: datetime
    window: str  # size of one, in words
    checked: Checked | None
    profile: Mapping[str, Column]
    seen: Mapping[str, ColumnSeen]  # of the newest window with a verdict, by column
    performance: Performance | None
    explained: Explained | None
    alerts: tuple[Alert, ...]
    moments: tuple[Moment, ...]
    skipped: tuple[tuple[str, str], ...]  # what was not looked at, and why


def gather(
    project: Project,
    reference: str,
    *,
    since: str | datetime | None = None,
    until: str | datetime | None = None,
    window: str | None = None,
    now: datetime | None = None,
) -> Gathered:
    """Read everything; what is not there is told as skipped.

    Args:
        project: whose registry, records, ledger and settings are used.
        reference: `house-prices` (its champion), `house-prices@3`.
        since: as `charkha.read_records`; from the first record without it.
        until: the same; now without it.
        window: size of one window; without it that of `[monitoring]`, or so that there are few.
        now: when the report is made.

    Raises:
        UserError: there is no such version, size or moment.
        BackendError: the registry, the records or the ledger refuse.
    """
    made_at = now or datetime.now(UTC)
    start = None if since is None else moment_of(since, made_at)
    end = made_at if until is None else moment_of(until, made_at)
    version = find_version(project, reference)
    size = window or project.monitoring.window
    if size is not None:
        size_of(size)  # or a word that it is none
    skipped: list[tuple[str, str]] = []
    observed = _tried(
        "drift", lambda: observe(project, str(version), since=start, until=end), skipped
    )
    size = size or _size(observed)
    checked, seen = (None, {}) if observed is None else _judged(project, observed, size)
    performance = _tried(
        "performance",
        lambda: measure_performance(project, str(version), since=start, until=end, window=size),
        skipped,
    )
    explained = _explained(project, checked, end, skipped)
    skipped += _left_out(project, checked, performance)
    return Gathered(
        version=str(version),
        project=project.name,
        made_at=made_at,
        since=start,
        until=end,
        window=f"{int(size):,} rows" if size.isdigit() else size,
        checked=checked,
        profile={} if observed is None else observed.profile.columns,
        seen=seen,
        performance=performance,
        explained=explained,
        alerts=tuple(alerts_of(project, version.name)),
        moments=story(project, version.name, start)[-_MOMENTS:],
        skipped=tuple(dict.fromkeys(skipped)),
    )


def _explained(
    project: Project, checked: Checked | None, until: datetime, skipped: list[tuple[str, str]]
) -> Explained | None:
    """Return why predictions moved, where they did in the newest window."""
    if checked is None or PREDICTION not in checked.last.drifted:
        return None
    version, since = checked.version, checked.last.since
    return _tried(
        "why predictions moved",
        lambda: explain_change(project, version, since=since, until=until),
        skipped,
    )


def _size(observed: Observed | None) -> str:
    """Return a size of which there are at most `_WINDOWS`, none of them too small to tell."""
    rows = 0 if observed is None else observed.records.num_rows
    return str(max(_LEAST, math.ceil(rows / _WINDOWS)))


def _judged(
    project: Project, observed: Observed, size: str
) -> tuple[Checked, Mapping[str, ColumnSeen]]:
    """Return the verdicts, and what the newest window with one holds."""
    [checked] = check_observed(project, observed, size_of(size), sparing=True)
    windows = [*cut(observed.records, size_of(size))]
    told = [
        window
        for window, verdict in zip(windows, checked.verdicts, strict=True)
        if verdict.outcome != "not enough data"
    ]
    newest = (told or windows)[-1].records
    return checked, summarise(newest, observed.profile)


def _tried(what: str, found_out: Callable[[], T], skipped: list[tuple[str, str]]) -> T | None:
    try:
        return found_out()
    except MissingExtra:
        raise
    except UserError as e:
        skipped.append((what, e.what))
    return None


def _left_out(
    project: Project, checked: Checked | None, performance: Performance | None
) -> list[tuple[str, str]]:
    found = [
        (column, "left out by the settings: ignored, or redacted in records")
        for column in sorted(ignored_by(project))
    ]
    few = [v for v in checked.verdicts if v.outcome == "not enough data"] if checked else []
    if few:
        least = project.monitoring.least_rows
        found.append(
            (f"{len(few)} window{'s' if len(few) > 1 else ''}", f"fewer than {least:,} rows")
        )
    if checked is not None and checked.last.columns:
        told = {c.column for c in checked.last.columns}
        found += [
            (c.column, text) for c in checked.last.columns for text in c.notices if not c.drifted
        ]
        if TRUTH not in told:
            found.append(("ground truth", "too little of it in the newest window to compare"))
    windows = performance.windows if performance else ()
    found += [("estimate", w.no_estimate) for w in windows[-1:] if w.no_estimate]
    found += [("performance", text) for w in windows[-1:] for text in w.notices]
    return found
