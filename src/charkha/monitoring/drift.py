"""Whether a window has drifted: a decision on values, with its reason; and when it is an alarm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from charkha.data.profiles.profile import ColumnSeen, Profile
from charkha.monitoring.comparing import Comparison, Measured, compare
from charkha.monitoring.correction import combined, holm
from charkha.monitoring.effects import Effects
from charkha.project import MonitoringSettings

Outcome = Literal["drift", "no drift", "not enough data"]
_NAMED = 3  # columns in a reason
# Rows that a window counts less for its rate of false alarms: far out, where verdicts are made, the
# p-values of few rows are the least sure.
_UNSURE = 150


@dataclass(frozen=True, kw_only=True)
class ColumnVerdict:
    """What became of one column."""

    column: str
    kind: str
    drifted: bool
    because: str
    p: float  # of all its tests together, corrected for the other columns
    tests: tuple[Measured, ...]
    effects: Effects
    missing: tuple[float, float]  # part of the rows, reference and window
    notices: tuple[str, ...]
    counting: tuple[str, ...] = ()  # the tests that made it drift


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What became of one window."""

    outcome: Outcome
    because: str
    rows: int
    since: datetime | None = None  # of its first row
    until: datetime | None = None  # of its last row
    columns: tuple[ColumnVerdict, ...] = ()  # those that drifted first, then by p

    @property
    def drifted(self) -> tuple[str, ...]:
        """The names of the columns that drifted."""
        return tuple(c.column for c in self.columns if c.drifted)

    @property
    def told(self) -> Told:
        """What an alarm needs to know of it."""
        return Told(outcome=self.outcome, drifted=self.drifted, since=self.since)


@dataclass(frozen=True, kw_only=True)
class Told:
    """A verdict as an alarm sees it, and as the ledger remembers it."""

    outcome: Outcome
    drifted: tuple[str, ...] = ()
    since: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Alarm:
    """Whether somebody should be told."""

    raised: bool
    because: str
    since: Mapping[str, datetime | None]  # column -> the first of its windows without a break


def judge(
    profile: Profile,
    seen: Mapping[str, ColumnSeen],
    settings: MonitoringSettings,
    *,
    rows: int,
    since: datetime | None = None,
    until: datetime | None = None,
    family: int = 1,
) -> Verdict:
    """Decide whether a window has drifted.

    A column has if one of its tests is significant after both corrections, and what that test looks
    at has changed by so much that it matters. Small windows get a part of the rate of false alarms:
    four sevenths of it at 200 rows, 0.87 at 1,000.

    Args:
        profile: the reference.
        seen: the window's columns, summed up against it.
        settings: rate of false alarms, what matters, and how many rows it takes.
        rows: of the window.
        since: when the window begins.
        until: when it ends.
        family: how many windows are judged side by side, such as segments of one; they share the
            rate of false alarms.
    """
    if rows < settings.least_rows:
        because = f"{rows:,} rows, and it takes {settings.least_rows:,} to tell"
        return Verdict(
            outcome="not enough data", because=because, rows=rows, since=since, until=until
        )
    compared = {
        name: compare(name, profile.columns[name], column, settings)
        for name, column in seen.items()
        if column.rows
    }
    alpha = settings.false_alarms / family * rows / (rows + _UNSURE)
    together = {
        name: combined([(t.p, t.weight) for t in each.tests]) for name, each in compared.items()
    }
    columns = [
        _column(compared[name], adjusted, factor, alpha)
        for name, (adjusted, factor) in holm(together).items()
    ]
    columns.sort(key=lambda c: (not c.drifted, c.p, c.column))
    drifted = [c for c in columns if c.drifted]
    return Verdict(
        outcome="drift" if drifted else "no drift",
        because=_because(drifted, len(columns), rows),
        rows=rows,
        since=since,
        until=until,
        columns=tuple(columns),
    )


def alarm(history: Sequence[Told], settings: MonitoringSettings) -> Alarm:
    """Decide whether drift is an alarm: the same column in so many windows without a break.

    Windows with too few rows say nothing, and neither count nor break.

    Args:
        history: verdicts, oldest first; the last is the one in question.
        settings: how many windows in a row it takes.
    """
    told = [v for v in history if v.outcome != "not enough data"]
    if not told:
        return Alarm(raised=False, because="no window has had enough rows", since={})
    runs = {column: _run(column, told) for column in told[-1].drifted}
    asked = settings.windows_in_a_row
    lasting = {column: run for column, run in runs.items() if len(run) >= asked}
    since = {column: run[0].since for column, run in (lasting or runs).items()}
    if lasting:
        longest = max(map(len, lasting.values()))
        because = f"{_listed(list(lasting))} drifted in {longest} windows in a row"
        if asked == 1 and longest == 1:
            because = f"{_listed(list(lasting))} drifted"
        return Alarm(raised=True, because=because, since=since)
    if runs:
        count = max(map(len, runs.values()))
        because = f"{_listed(list(runs))} drifted in {count} of {asked} windows in a row"
        return Alarm(raised=False, because=because, since=since)
    return Alarm(raised=False, because="no column drifted in the last window", since={})


def _run(column: str, history: Sequence[Told]) -> list[Told]:
    """Return the last windows in which the column drifted, up to the first break."""
    run: list[Told] = []
    for verdict in reversed(history):
        if column not in verdict.drifted:
            break
        run.insert(0, verdict)
    return run


def _column(compared: Comparison, adjusted: float, factor: int, alpha: float) -> ColumnVerdict:
    significant = [t for t in compared.tests if t.p / t.weight * factor <= alpha]
    counting = [t for t in significant if t.matters] if adjusted <= alpha else []
    if counting:
        because = _reasons(counting)
    elif significant and adjusted <= alpha:
        because = f"{_reasons(significant)}: too small to matter"
    else:
        because = "no change that is more than chance"
    return ColumnVerdict(
        column=compared.column,
        kind=compared.kind,
        drifted=bool(counting),
        because=because,
        p=adjusted,
        tests=compared.tests,
        effects=compared.effects,
        missing=compared.missing,
        notices=compared.notices,
        counting=tuple(t.test for t in counting),
    )


def _reasons(tests: Sequence[Measured]) -> str:
    """Return what the tests say, each thing once, with the smallest p."""
    told: dict[str, Measured] = {}
    for test in sorted(tests, key=lambda t: t.p):
        told.setdefault(test.says, test)
    return "; ".join(f"{says} ({t.test}, p {_p(t.p)})" for says, t in told.items())


def _p(p: float) -> str:
    return "< 1e-300" if p < 1e-300 else f"= {p:.2g}"


def _because(drifted: Sequence[ColumnVerdict], columns: int, rows: int) -> str:
    if not drifted:
        return f"none of {columns} columns changed by more than chance and enough, in {rows:,} rows"
    named = "; ".join(f"{c.column}: {c.because}" for c in drifted[:_NAMED])
    more = f"; and {len(drifted) - _NAMED} more" if len(drifted) > _NAMED else ""
    return f"{len(drifted)} of {columns} columns: {named}{more}"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
