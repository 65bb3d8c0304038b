"""A look at a version: drift and performance as they are now, and the causes for alerts in them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from charkha.errors import MissingExtra, UserError
from charkha.ledger import open_ledger
from charkha.models.registry import find_version
from charkha.monitoring import causes
from charkha.monitoring.checking import check
from charkha.monitoring.measuring import measure_performance
from charkha.monitoring.windows import size_of
from charkha.serving.records.moments import moment_of
from charkha.serving.records.reading import read_records

if TYPE_CHECKING:
    from collections.abc import Callable

    from charkha.models.registries.port import ModelVersion
    from charkha.monitoring.causes import Cause
    from charkha.monitoring.checking import Checked
    from charkha.monitoring.performance import Performance
    from charkha.project import MonitoringSettings, Project

WINDOW = "1000"  # rows, where neither the settings nor the caller say: a shift of 0.2 σ is found
BACK = "30d"  # for ground truth, which comes late
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Looked:
    """What a look at a version found."""

    version: str  # "house-prices@3"
    checked: Checked | None  # None where there is no record yet
    performance: Performance | None  # None where there is no record yet, or no held-out figure
    causes: tuple[Cause, ...]
    unknown: tuple[str, ...]  # keys of causes of which this look cannot tell: too few rows
    notes: tuple[str, ...]  # what could not be looked at, and why


def look(
    project: Project,
    reference: str,
    *,
    since: str | datetime | None = None,
    window: str | None = None,
) -> Looked:
    """Look at a version now. Having no record yet, or too few, is a finding and no error.

    The verdicts are kept in the ledger where they are news: what is checked each minute would fill
    it with windows that overlap.

    Args:
        project: whose registry, records, ledger and settings are used.
        reference: `house-prices` (its champion), `house-prices@3`.
        since: as `charkha.read_records`; without it far enough back for an alarm, and 30 days for
            ground truth.
        window: size of one window; without it that of `[monitoring]`, or 1,000 rows.

    Raises:
        UserError: there is no such version, size or moment, or an extra is missing.
        Unavailable: the registry, the records or the ledger does not answer; look again later.
    """
    size = window or project.monitoring.window or WINDOW
    reach = reach_of(size, project.monitoring, since)
    version = find_version(project, reference)
    notes: list[str] = []
    found = _unless_there_is_nothing(
        lambda: check(
            project, str(version), since=reach.since, window=size, limit=reach.limit, sparing=True
        ),
        notes,
    )
    checked = found[0] if found else None
    performance = _unless_there_is_nothing(
        lambda: measure_performance(
            project, str(version), since=since or BACK, window=size, sparing=True
        ),
        notes,
    )
    told = causes.together(
        [
            causes.of_drift(str(version), checked),
            causes.of_performance(str(version), performance),
            _from_ledger(project, version),
            _of_silence(project, version),
        ]
    )
    return Looked(
        version=str(version),
        checked=checked,
        performance=performance,
        causes=told.causes,
        unknown=told.unknown,
        notes=_once(notes),
    )


class Reach(NamedTuple):
    """How far back a look reads: from a moment on, or the newest so many records."""

    since: str | datetime | None
    limit: int | None


def reach_of(size: str, settings: MonitoringSettings, since: str | datetime | None) -> Reach:
    """Return what a look reads: as told, or one window more than an alarm takes.

    Raises:
        UserError: there is no such size or moment.
    """
    windows = settings.windows_in_a_row + 1
    read = size_of(size)
    if since is not None:
        return Reach(moment_of(since), None)
    if read.time is not None:
        return Reach(datetime.now(UTC) - read.time * windows, None)
    return Reach(None, (read.rows or 1) * windows)


def _unless_there_is_nothing(found_out: Callable[[], T], notes: list[str]) -> T | None:
    """Return what was found out; None, with a note, where there is nothing to find it out from."""
    try:
        return found_out()
    except MissingExtra:
        raise
    except UserError as e:
        notes.append(e.what)
        return None


def _once(notes: list[str]) -> tuple[str, ...]:
    """Return notes without those that another says already: no record, and none since 30d."""
    told = dict.fromkeys(notes)
    return tuple(n for n in told if not any(n.startswith(f"{other} since ") for other in told))


def _from_ledger(project: Project, version: ModelVersion) -> causes.Found:
    """Return the causes in what others decided: releases, and the loop."""
    ledger = open_ledger(project)
    try:
        releases = ledger.read("release", version.name)
        turns = ledger.read("loop", version.name)
    finally:
        ledger.close()
    now = datetime.now(UTC).timestamp()
    return causes.together(
        [
            causes.of_releases(str(version), releases, now),
            causes.of_loop(version.name, turns, now),
        ]
    )


def _of_silence(project: Project, version: ModelVersion) -> causes.Found:
    if not project.alerts.silence_s:
        return causes.Found()
    newest = read_records(
        version.name, version=version.version, columns=["time"], limit=1, project=project
    )
    last = newest["time"][0].as_py() if newest.num_rows else None
    return causes.of_silence(str(version), last, datetime.now(UTC), project.alerts.silence_s)
