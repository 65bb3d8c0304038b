"""A version's records held against its held-out figures, and the verdicts kept in the ledger."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, cast

import pyarrow as pa
import pyarrow.compute as compute

from charkha.data.profiles.building import profile_column
from charkha.data.profiles.window import see_column
from charkha.errors import DataError, UserError
from charkha.ledger import Decision, open_ledger, who_acts
from charkha.models.held_out import HeldOutRows, held_out_of
from charkha.models.metrics import METRICS, Task, default
from charkha.models.packaged import folder_of
from charkha.models.profiled import PREDICTION, TRUTH
from charkha.models.registry import find_version
from charkha.monitoring import comparing
from charkha.monitoring.answers import Labelled, answered, inputs_of, labelled
from charkha.monitoring.checking import ignored_by
from charkha.monitoring.estimates import Estimator, estimates, make_estimator
from charkha.monitoring.losses import HeldOut, compare, held_out_value, interval
from charkha.monitoring.performance import (
    Figure,
    MetricVerdict,
    Outcome,
    Performance,
    Segment,
    ToldPerformance,
    WindowPerformance,
    performance_alarm,
)
from charkha.monitoring.segments import worst_segments
from charkha.monitoring.windows import Window, cut, size_of
from charkha.serving.records.reading import read_records

if TYPE_CHECKING:
    from charkha.models.registries.port import ModelVersion
    from charkha.project import MonitoringSettings, Project

KIND = "performance"  # of the ledger's decisions


def measure_performance(
    project: Project,
    reference: str,
    *,
    since: str | datetime | None = None,
    until: str | datetime | None = None,
    window: str | None = None,
    sparing: bool = False,
) -> Performance:
    """Measure one version on the records whose ground truth has come, and keep the verdicts.

    Measuring the same records with the same ground truths again keeps nothing twice.

    Args:
        project: whose registry, records, ledger, `[[gate]]` and `[monitoring]` are used.
        reference: `house-prices` (its champion), `house-prices@3`.
        since: as `charkha.read_records`.
        until: the same.
        window: size of one window, `1000` rows or `6h`; that of `[monitoring]` without it.
        sparing: for who looks each minute: look for segments only where a metric is lower, and keep
            a verdict only where it says another thing than the one before, or is of later records.

    Raises:
        UserError: there is no such version, no record.
        BackendError: the registry, the blobs, the records or the ledger refuse.
    """
    settings = project.monitoring
    size_text = window or settings.window
    size = size_of(size_text) if size_text else None
    version = find_version(project, reference)
    kept = held_out_of(folder_of(project, version))
    records = records_of(project, version, since, until)
    judge = _prepare(project, kept, inputs_of(records, ignored_by(project)))
    windows = tuple(judge.window(part) for part in cut(records, size))
    alarm = performance_alarm(_remember(project, version, windows, sparing=sparing), settings)
    segments: tuple[Segment, ...] = ()
    if alarm.raised or not sparing:
        every = labelled(answered(records, kept.task, kept.classes), kept.task)
        segments = worst_segments(every, judge.inputs, judge.held_out, kept.task, settings)
    return Performance(
        version=str(version),
        task=kept.task,
        target=kept.target,
        held_out=judge.figures,
        windows=windows,
        segments=segments,
        alarm=alarm,
    )


def records_of(
    project: Project,
    version: ModelVersion,
    since: str | datetime | None,
    until: str | datetime | None,
) -> pa.Table:
    """Return all records of a version in a span of time, oldest first.

    Raises:
        UserError: there is none.
        BackendError: the place of the records refuses.
    """
    records = read_records(
        version.name, since=since, until=until, version=version.version, project=project
    )
    if records.num_rows == 0:
        span = f" since {since}" if since else ""
        span += f" until {until}" if until else ""
        raise UserError(
            f"there is no record of {version}{span}",
            fix=f"look further back with --since, or see what there is: "
            f"charkha records {version.name}",
        )
    return records


def metrics_of(project: Project, task: Task) -> tuple[str, ...]:
    """Return the metrics of the project's gates that fit the task, else the task's usual one."""
    named = dict.fromkeys(g.metric for g in project.gate)
    fitting = tuple(n for n in named if n in METRICS and METRICS[n].task == task)
    return fitting or (default(task),)


@dataclass(frozen=True, kw_only=True)
class _Judge:
    """All that a window is judged with."""

    task: Task
    classes: tuple[object, ...] | None
    metrics: tuple[str, ...]
    inputs: tuple[str, ...]  # columns, `input.area`
    held_out: Labelled | None
    known: HeldOut
    figures: tuple[Figure, ...]
    estimator: Estimator
    settings: MonitoringSettings

    def window(self, window: Window) -> WindowPerformance:
        """Return the verdict on a window, with its estimate."""
        answers = answered(window.records, self.task, self.classes)
        known = labelled(answers, self.task)
        about, reason = estimates(self.estimator, answers)
        rows, labels, least = window.records.num_rows, len(known), self.settings.least_labels
        notices = [*answers.notices, *known.notices]
        verdicts: tuple[MetricVerdict, ...] = ()
        because = f"{labels:,} of {rows:,} rows have ground truth"
        outcome: Outcome = "not enough labels"
        if labels < least:
            because += f", and it takes {least:,} to tell"
        else:
            verdicts, problems = compare(self.metrics, known.scored, self.known, self.settings)
            notices += [*problems, *_unlike(answers.rows, self.settings)]
            lower = [v for v in verdicts if v.lower]
            told = "; ".join(v.because for v in lower or verdicts) or "; ".join(problems)
            because += f": {told}"
            if verdicts:
                outcome = "lower" if lower else "as expected"
        return WindowPerformance(
            outcome=outcome,
            because=because,
            since=window.since,
            until=window.until,
            rows=rows,
            labelled=labels,
            metrics=verdicts,
            estimates=about,
            no_estimate=reason,
            notices=tuple(notices),
        )


def _prepare(project: Project, kept: HeldOutRows, inputs: Sequence[str]) -> _Judge:
    metrics = metrics_of(project, kept.task)
    rows = None
    if kept.table is not None:
        rows = labelled(answered(kept.table, kept.task, kept.classes), kept.task)
        inputs = [name for name in inputs if name in kept.table.column_names]
    known = HeldOut(
        figures=kept.scores, rows=kept.rows, kept=rows.scored if rows is not None else None
    )
    figures = tuple(f for f in (_held_out(name, known) for name in metrics) if f is not None)
    return _Judge(
        task=kept.task,
        classes=kept.classes,
        metrics=metrics,
        inputs=tuple(inputs),
        held_out=rows,
        known=known,
        figures=figures,
        estimator=make_estimator(rows, inputs, figures),
        settings=project.monitoring,
    )


def _held_out(name: str, known: HeldOut) -> Figure | None:
    """Return a metric on all held-out rows, as sure as the kept ones say; None if undefined."""
    try:
        value = held_out_value(name, known)
        if known.kept is None:
            return Figure(metric=name, value=value, low=None, high=None, rows=known.rows)
        found = interval(name, known.kept)
    except (DataError, UserError):
        return None
    part = math.sqrt(len(known.kept.truth) / known.rows)
    low, high = value + part * (found.low - found.value), value + part * (found.high - found.value)
    return Figure(metric=name, value=value, low=low, high=high, rows=known.rows)


def _unlike(rows: pa.Table, settings: MonitoringSettings) -> tuple[str, ...]:
    """Say where rows with ground truth are not like those that still wait for it.

    What is measured on some labels speaks for all rows only as far as those are like the others.
    """
    have = compute.is_valid(rows[TRUTH])
    with_truth, without = rows.filter(have), rows.filter(compute.invert(have))
    if min(with_truth.num_rows, without.num_rows) < settings.least_labels:
        return ()
    profile = profile_column(PREDICTION, without[PREDICTION])
    seen = see_column(with_truth[PREDICTION], profile)
    found = comparing.compare(PREDICTION, profile, seen, settings)
    told = [t for t in found.tests if t.matters and t.p / t.weight <= settings.false_alarms]
    if not told:
        return ()
    says = min(told, key=lambda t: t.p / t.weight).says
    return (
        f"rows with ground truth are not like the {without.num_rows:,} without: prediction, {says}",
    )


def _remember(
    project: Project,
    version: ModelVersion,
    windows: Sequence[WindowPerformance],
    *,
    sparing: bool,
) -> list[ToldPerformance]:
    """Keep the verdicts; return them after those of windows that ended before these begin."""
    ledger = open_ledger(project)
    try:
        known = ledger.read(KIND, str(version))
        earlier = _earlier(known, windows[0].since)
        for window in _news(known, windows) if sparing else windows:
            ledger.record(_decision(version, window))
    finally:
        ledger.close()
    return [*earlier, *(w.told for w in windows)]


def _news(
    known: Sequence[Decision], windows: Sequence[WindowPerformance]
) -> Iterator[WindowPerformance]:
    """Yield the windows with enough labels that say another thing, or are of later records."""
    judged = [d.numbers for d in known if d.numbers["outcome"] != "not enough labels"]
    last = judged[-1] if judged else None
    said = (last["outcome"], last["lower"]) if last else None
    until = datetime.fromisoformat(str(last["until"])) if last else None
    for window in windows:
        if window.outcome == "not enough labels":
            continue
        now = (window.outcome, list(window.lower))
        if until is None or window.since > until or (now != said and window.until > until):
            yield window
            said, until = now, window.until


def _decision(version: ModelVersion, window: WindowPerformance) -> Decision:
    """Return what the ledger keeps; its time is the window's end, so that twice is once."""
    return Decision(
        at=window.until.timestamp(),
        kind=KIND,
        subject=str(version),
        because=f"{window.outcome}: {window.because}",
        numbers={
            "outcome": window.outcome,
            "rows": window.rows,
            "labelled": window.labelled,
            "since": window.since.isoformat(),
            "until": window.until.isoformat(),
            "lower": list(window.lower),
            "metrics": {
                m.metric: {
                    "value": m.value,
                    "low": m.low,
                    "high": m.high,
                    "held_out": m.held_out,
                    "p": m.p,
                }
                for m in window.metrics
            },
            "estimates": {
                e.metric: {"value": e.value, "low": e.low, "high": e.high} for e in window.estimates
            },
        },
        who=who_acts(),
    )


def _earlier(decisions: Sequence[Decision], before: datetime) -> list[ToldPerformance]:
    """Return the verdicts of windows that ended before this moment, oldest first, none overlapping.

    Of a window that was judged again as more labels came, the verdict with the most of them counts.
    """
    by_span: dict[tuple[datetime, datetime], Decision] = {}
    for decision in decisions:
        since, until = (
            datetime.fromisoformat(str(decision.numbers[name])) for name in ("since", "until")
        )
        known = by_span.get((since, until))
        if known is None or _labels(decision) >= _labels(known):
            by_span[since, until] = decision
    told: list[ToldPerformance] = []
    end: datetime | None = None
    for (since, until), decision in sorted(by_span.items(), key=lambda item: item[0]):
        if until >= before or (end is not None and since <= end):
            continue
        told.append(
            ToldPerformance(
                outcome=cast("Outcome", decision.numbers["outcome"]),
                lower=tuple(cast("list[str]", decision.numbers["lower"])),
                since=since,
            )
        )
        end = until
    return told


def _labels(decision: Decision) -> int:
    return int(cast("int", decision.numbers["labelled"]))
