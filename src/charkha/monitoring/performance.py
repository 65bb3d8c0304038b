"""How well a version does in production: values, the verdict on a window, and when it is an alarm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from charkha.models.metrics import Task

Outcome = Literal["lower", "as expected", "not enough labels"]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A metric with the 95 % interval in which it lies, in the metric's own unit."""

    metric: str
    value: float
    low: float
    high: float
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
    share: float  # worse_by as a part of the held-out loss: 0.12 is 12 % more
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


@dataclass(frozen=True, kw_only=True)
class Segment:
    """Rows that have something in common, and for which the model is worse than for the others."""

    where: tuple[tuple[str, str], ...]  # (("district", "= North"), ("area", "140 to 220"))
    rows: int
    part: float  # of the labelled rows
    metric: str  # what the three below are: "mae", "rmse", "accuracy", …
    value: float
    rest: float  # of all other rows
    held_out: float | None  # of the same segment of the held-out rows; None where they are few
    worse_by: float  # in the unit of the loss: how much more a row of it costs than another
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
