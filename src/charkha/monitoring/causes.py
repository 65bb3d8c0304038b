"""Causes: what somebody should be told of, made from what was found out, without doing anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Literal, NamedTuple

from charkha.clock import between, to_minute, to_second

if TYPE_CHECKING:
    from charkha.ledger import Decision
    from charkha.monitoring.checking import Checked
    from charkha.monitoring.drift import ColumnVerdict, Verdict
    from charkha.monitoring.performance import Performance, Segment

Severity = Literal["warning", "critical"]

_QUALITY = frozenset(
    {"missing", "new", "range"}
)  # tests of what a value is, not of how many are what
_NAMED = 3  # columns in a title
_TOLD = 5  # columns whose reason stands in the text; the numbers have all of them
_HALF = 0.5  # of the values missing: no longer a warning
_TOLD_S = 86_400.0  # for so long a release that was rolled back, or a turn that failed, is news


@dataclass(frozen=True, kw_only=True)
class Cause:
    """Something that is the case now and that a person should know.

    There is one alert for each `key`. It is told again when its `state` has a member that was not
    told yet, or when it becomes critical; not when a member goes.
    """

    key: str  # "drift/house-prices@3": what it is, and of what; also quality/, performance/, …
    title: str  # "Drift in area and place"
    text: str  # the reason with its numbers, one sentence or several
    severity: Severity
    subject: str  # "house-prices@3"
    state: tuple[str, ...] = ()  # what makes it another: of drift the columns, sorted
    numbers: Mapping[str, object] = field(default_factory=dict)  # what JSON can hold

    @property
    def kind(self) -> str:
        """What the cause is: `drift`."""
        return self.key.partition("/")[0]


class Found(NamedTuple):
    """What a look found, and of which causes it could not tell."""

    causes: tuple[Cause, ...] = ()
    unknown: tuple[str, ...] = ()  # their keys


def of_drift(version: str, checked: Checked | None) -> Found:
    """Return the causes in columns that drifted for so long that it is an alarm.

    Where only missing values, new categories or values out of range made a column drift, the cause
    is the quality of the data.
    """
    drift, quality = f"drift/{version}", f"quality/{version}"
    judged = [] if checked is None else [v for v in checked.verdicts if v.columns]
    if checked is None or not judged:
        return Found(unknown=(drift, quality))
    last = judged[-1]
    if not checked.alarm.raised:
        return Found()
    lasting = [c for c in last.columns if c.drifted and c.column in checked.alarm.since]
    bad = [c for c in lasting if c.counting and _QUALITY.issuperset(c.counting)]
    moved = [c for c in lasting if c not in bad]
    since = checked.alarm.since
    causes = []
    if moved:
        title = f"Drift in {listed([plain(c.column) for c in moved])}"
        causes.append(_of_columns(drift, title, moved, last, since, version, "warning"))
    if bad:
        title = f"Other values than in training in {listed([plain(c.column) for c in bad])}"
        worst = max(c.missing[1] if "missing" in c.counting else 0.0 for c in bad)
        severity: Severity = "critical" if worst >= _HALF else "warning"
        causes.append(_of_columns(quality, title, bad, last, since, version, severity))
    return Found(causes=tuple(causes))


def of_performance(version: str, performance: Performance | None) -> Found:
    """Return the cause in metrics that were lower for so long that it is an alarm."""
    key = f"performance/{version}"
    last = None if performance is None else performance.last_judged
    if performance is None or last is None:
        return Found(unknown=(key,))
    if not performance.alarm.raised:
        return Found()
    lower = [m for m in last.metrics if m.lower and m.metric in performance.alarm.since]
    lower = lower or [m for m in last.metrics if m.lower]
    worst = performance.segments[0] if performance.segments else None
    text = ". ".join(
        [
            "; ".join(m.because for m in lower) or last.because,
            f"{last.labelled:,} rows with ground truth, {_span(last.since, last.until)}",
            *([f"Worst where {_segment(worst)}"] if worst else []),
        ]
    )
    cause = Cause(
        key=key,
        title=f"Performance is lower: {listed([m.metric for m in lower])}",
        text=text,
        severity="critical",
        subject=version,
        state=tuple(sorted(m.metric for m in lower)),
        numbers={
            "since": {metric: at.isoformat() for metric, at in performance.alarm.since.items()},
            "metrics": {
                m.metric: {"value": m.value, "low": m.low, "high": m.high, "held_out": m.held_out}
                for m in lower
            },
        },
    )
    return Found(causes=(cause,))


def of_releases(version: str, decisions: Sequence[Decision], now: float) -> Found:
    """Return the cause in the newest release to or from a version, if it was rolled back today.

    Args:
        version: `house-prices@3`.
        decisions: of the kind `release`, of the model, oldest first.
        now: unix seconds.
    """
    model, _, number = version.partition("@")
    ours = [d for d in decisions if number in (str(d.numbers["from"]), str(d.numbers["to"]))]
    if not ours or ours[-1].numbers["phase"] != "rolled back" or now - ours[-1].at > _TOLD_S:
        return Found()
    last = ours[-1]
    cause = Cause(
        key=f"release/{model}",
        title=f"The release of {last.subject} was rolled back",
        text=last.because,
        severity="warning",
        subject=last.subject,
        state=(str(last.numbers["release"]),),
        numbers={"release": last.numbers["release"]},
    )
    return Found(causes=(cause,))


def of_loop(model: str, decisions: Sequence[Decision], now: float) -> Found:
    """Return the cause in the newest turn of the loop, if it failed today.

    Args:
        model: its name.
        decisions: of the kind `loop`, of the model, oldest first.
        now: unix seconds.
    """
    last = decisions[-1] if decisions else None
    if last is None or last.numbers.get("outcome") != "failed" or now - last.at > _TOLD_S:
        return Found()
    cause = Cause(
        key=f"loop/{model}",
        title="A turn of the loop failed",
        text=last.because,
        severity="warning",
        subject=last.subject,
        state=(str(last.numbers.get("turn")),),
        numbers={"turn": last.numbers.get("turn"), "run": last.numbers.get("run")},
    )
    return Found(causes=(cause,))


def of_silence(version: str, last: datetime | None, now: datetime, silence_s: float) -> Found:
    """Return the cause in predictions that stay away.

    Args:
        version: `house-prices@3`.
        last: when the newest record was made; None where there was never one, which is no alert.
        now: moment of the look.
        silence_s: so long is too long; 0: never.
    """
    key = f"records/{version}"
    if last is None:
        return Found(unknown=(key,))
    if not silence_s or (now - last).total_seconds() < silence_s:
        return Found()
    cause = Cause(
        key=key,
        title="No predictions any more",
        text=f"the last prediction was recorded at {to_second(last)}, more than "
        f"{silence_s:g} s ago",
        severity="critical",
        subject=version,
        numbers={"last": last.isoformat()},
    )
    return Found(causes=(cause,))


def together(parts: Sequence[Found]) -> Found:
    """Return several findings as one."""
    return Found(
        causes=tuple(cause for part in parts for cause in part.causes),
        unknown=tuple(key for part in parts for key in part.unknown),
    )


def plain(column: str) -> str:
    """Return a column as people call it: `area` for `input.area`."""
    if column.startswith("input."):
        return column.removeprefix("input.")
    return {"prediction": "the prediction", "ground_truth": "the ground truth"}.get(column, column)


def listed(names: Sequence[str]) -> str:
    """Return `a`, `a and b`, `a, b and 3 more`."""
    if len(names) > _NAMED:
        return f"{', '.join(names[:_NAMED])} and {len(names) - _NAMED} more"
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


def _of_columns(
    key: str,
    title: str,
    columns: Sequence[ColumnVerdict],
    verdict: Verdict,
    since: Mapping[str, datetime | None],
    version: str,
    severity: Severity,
) -> Cause:
    began = min((at for c in columns if (at := since[c.column]) is not None), default=None)
    told = "; ".join(f"{plain(c.column)}: {c.because}" for c in columns[:_TOLD])
    told += f"; and {len(columns) - _TOLD} more columns" if len(columns) > _TOLD else ""
    text = f"{told}. {verdict.rows:,} rows, {_span(verdict.since, verdict.until)}"
    if began is not None:
        text += f"; drifting since {to_minute(began)}"
    return Cause(
        key=key,
        title=title,
        text=text,
        severity=severity,
        subject=version,
        state=tuple(sorted(c.column for c in columns)),
        numbers={
            "since": began.isoformat() if began else None,
            "rows": verdict.rows,
            "columns": {
                c.column: {
                    "because": c.because,
                    "p": c.p,
                    "shift_sd": c.effects.shift_sd,
                    "psi": c.effects.psi,
                }
                for c in columns
            },
        },
    )


def _segment(segment: Segment) -> str:
    return f"{segment.name}: {segment.metric} {segment.value:,.4g} against {segment.rest:,.4g}"


def _span(since: datetime | None, until: datetime | None) -> str:
    if since is None or until is None:
        return "whenever"
    return between(since, until)
