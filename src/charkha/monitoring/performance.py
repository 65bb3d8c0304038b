"""How well a version does in production: values, the verdict on a window, and when it is an alarm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from charkha.models.metrics import Task
from charkha.project import MonitoringSettings

Outcome = Literal["lower", "as expected", "not enough labels"]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A metric with the 95 % interval in which it lies, in the metric's own unit."""

    metric: str
    value: float
    low: float | None  # None where the package keeps no held-out rows
    high: float | None
    rows: int  # that it was measured, or estimated, on


@dataclass(frozen=True, kw_only=True)
class MetricVerdict:
    """One metric of a window, held against the version's held-out rows."""

    metric: str
    value: float
    low: float
    high: float
    held_out: float
    worse_by: float  # in the metric's unit; negative is better
    share: float | None  # worse_by as a part of the held-out loss, 1 - accuracy too; None of none
    p: float  # how often chance alone makes it as much worse
    lower: bool
    because: str


@dataclass(frozen=True, kw_only=True)
class WindowPerformance:
    """What became of one window."""

    outcome: Outcome
    because: str
    since: datetime  # of its first row
    until: datetime  # of its last row
    rows: int
    labelled: int  # rows whose ground truth has come
    metrics: tuple[MetricVerdict, ...] = ()  # empty where there are not enough labels
    estimates: tuple[Figure, ...] = ()  # of all its rows, made without their ground truth
    no_estimate: str | None = None  # why there is none
    notices: tuple[str, ...] = ()  # what a person should know, such as a metric that is undefined

    @property
    def lower(self) -> tuple[str, ...]:
        """The names of the metrics that are worse than on the held-out rows."""
        return tuple(m.metric for m in self.metrics if m.lower)

    @property
    def told(self) -> ToldPerformance:
        """What an alarm needs to know of it."""
        return ToldPerformance(outcome=self.outcome, lower=self.lower, since=self.since)


@dataclass(frozen=True, kw_only=True)
class ToldPerformance:
    """A verdict as an alarm sees it, and as the ledger remembers it."""

    outcome: Outcome
    lower: tuple[str, ...]
    since: datetime


@dataclass(frozen=True, kw_only=True)
class Segment:
    """Rows that have something in common, and for which the model is worse than for the others."""

    where: tuple[tuple[str, str], ...]  # (("district", "= North"), ("area", "140 to 220"))
    rows: int
    part: float  # of the labelled rows
    metric: str  # what the three below are: "mae", or "error rate" of classes
    value: float
    rest: float  # of all other rows
    held_out: float | None  # of the same segment of the held-out rows; None where they are few
    worse_by: float  # value - rest
    low: float  # of worse_by
    high: float
    p: float  # corrected for all segments that were looked at

    @property
    def name(self) -> str:
        """The segment in words: `district = North, area 140 to 220`."""
        return ", ".join(f"{column} {values}" for column, values in self.where)


@dataclass(frozen=True, kw_only=True)
class PerformanceAlarm:
    """Whether somebody should be told."""

    raised: bool
    because: str
    since: Mapping[str, datetime]  # metric -> the first of its lower windows without a break


@dataclass(frozen=True, kw_only=True)
class Performance:
    """What was found out about a version from records whose ground truth has come."""

    version: str  # "house-prices@3"
    task: Task
    target: str
    held_out: tuple[Figure, ...]
    windows: tuple[WindowPerformance, ...]  # oldest first
    segments: tuple[Segment, ...]  # worst first; of all windows together
    alarm: PerformanceAlarm

    @property
    def last(self) -> WindowPerformance:
        """The newest window, whether it has labels or not."""
        return self.windows[-1]

    @property
    def last_judged(self) -> WindowPerformance | None:
        """The newest window with enough labels for a verdict."""
        judged = [w for w in self.windows if w.outcome != "not enough labels"]
        return judged[-1] if judged else None


def performance_alarm(
    history: Sequence[ToldPerformance], settings: MonitoringSettings
) -> PerformanceAlarm:
    """Decide whether lower performance is an alarm: the same metric in so many windows in a row.

    Windows with too few labels say nothing, and neither count nor break.

    Args:
        history: verdicts, oldest first; the last is the one in question.
        settings: how many windows in a row it takes.
    """
    told = [v for v in history if v.outcome != "not enough labels"]
    if not told:
        because = "no window has had enough labels"
        return PerformanceAlarm(raised=False, because=because, since={})
    runs = {metric: _run(metric, told) for metric in told[-1].lower}
    if not runs:
        because = "no metric was lower in the last window with enough labels"
        return PerformanceAlarm(raised=False, because=because, since={})
    asked = settings.windows_in_a_row
    lasting = {metric: run for metric, run in runs.items() if len(run) >= asked}
    named = lasting or runs
    longest = max(map(len, named.values()))
    of = f"{longest}" if lasting else f"{longest} of {asked}"
    single = asked == longest == 1
    because = f"{', '.join(named)} lower" + ("" if single else f" in {of} windows in a row")
    since = {metric: run[0].since for metric, run in named.items()}
    return PerformanceAlarm(raised=bool(lasting), because=because, since=since)


def _run(metric: str, history: Sequence[ToldPerformance]) -> list[ToldPerformance]:
    """Return the last windows in which the metric was lower, up to the first break."""
    run: list[ToldPerformance] = []
    for verdict in reversed(history):
        if metric not in verdict.lower:
            break
        run.insert(0, verdict)
    return run
