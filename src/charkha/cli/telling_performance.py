"""How `charkha monitor` measures and tells performance: metrics, estimates, segments, explanation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from charkha.cli import show
from charkha.clock import to_minute
from charkha.data.late import late

if TYPE_CHECKING:
    from charkha.monitoring.explaining import Explained
    from charkha.monitoring.performance import Figure, Performance, Segment, WindowPerformance
    from charkha.project import Project

_INPUT, _PREDICTION = "input.", "prediction"


@dataclass(frozen=True, kw_only=True)
class Told:
    """What there is to tell of one version."""

    performance: Performance
    explained: Explained | None  # where predictions have drifted

    @property
    def lower(self) -> bool:
        """Whether a metric is lower in the last window with enough labels."""
        judged = self.performance.last_judged
        return judged is not None and judged.outcome == "lower"

    def as_json(self) -> dict[str, object]:
        return {
            "performance": asdict(self.performance),
            "explained": asdict(self.explained) if self.explained else None,
        }


def measure(
    project: Project,
    model: str,
    *,
    since: str | None,
    until: str | None,
    window: str | None,
    drifted: Sequence[str],
) -> Told:
    """Measure performance, and ask the model what moved its predictions if they have drifted.

    Raises:
        UserError, BackendError: as `measure_performance` and `explain_change`.
    """
    measuring = late("charkha.monitoring.measuring", extra="monitoring")
    performance = measuring.measure_performance(
        project, model, since=since, until=until, window=window
    )
    explained = None
    inputs = [name.removeprefix(_INPUT) for name in drifted if name.startswith(_INPUT)]
    if _PREDICTION in drifted:
        explaining = late("charkha.monitoring.explaining", extra="monitoring")
        last = performance.last
        explained = explaining.explain_change(
            project, model, since=last.since, until=until, columns=inputs or None
        )
    return Told(performance=performance, explained=explained)


def tell(told: Told) -> None:
    """Print it."""
    found, last = told.performance, told.performance.last
    print()
    print(show.bold(f"performance: {last.outcome}"))
    print(f"  {last.because}")
    if last.outcome == "lower":
        print(f"  {'alarm' if found.alarm.raised else 'no alarm'}: {found.alarm.because}")
    _metrics(found, last)
    if last.no_estimate:
        print(f"  no estimate: {last.no_estimate}")
    if len(found.windows) > 1:
        print()
        _windows(found.windows)
    if found.segments:
        print()
        print(show.bold(f"worst segments of {sum(w.labelled for w in found.windows):,} rows"))
        _segments(found.segments)
    if told.explained:
        print()
        _explained(told.explained)
    for text in last.notices:
        show.note(f"note: performance: {text}")


def _metrics(found: Performance, last: WindowPerformance) -> None:
    estimated = {e.metric: e for e in last.estimates}
    measured = {m.metric: m for m in last.metrics}
    held_out = {h.metric: h for h in found.held_out}
    names = dict.fromkeys([*measured, *estimated, *held_out])
    rows = []
    for name in names:
        kept, metric = held_out.get(name), measured.get(name)
        rows.append(
            (
                name,
                _interval(metric.value, metric.low, metric.high) if metric else "",
                _figure(kept),
                ("lower" if metric.lower else "as expected") if metric else "",
                f"{metric.p:.2g}" if metric else "",
                f"estimate {_figure(estimated[name])}" if name in estimated else "",
            )
        )
    if rows:
        print()
        show.table(("metric", "measured", "held out", "", "p", "without ground truth"), rows)


def _windows(windows: Sequence[WindowPerformance]) -> None:
    names = list(dict.fromkeys(m.metric for w in windows for m in w.metrics))
    rows = []
    for w in windows:
        values = {m.metric: f"{_number(m.value)}{' lower' if m.lower else ''}" for m in w.metrics}
        estimated = "; ".join(f"{e.metric} {_number(e.value)}" for e in w.estimates)
        rows.append(
            (
                to_minute(w.since),
                w.rows,
                w.labelled,
                w.outcome,
                *(values.get(name, "") for name in names),
                estimated,
            )
        )
    show.table(("from", "rows", "labelled", "performance", *names, "estimate"), rows)


def _segments(segments: Sequence[Segment]) -> None:
    rows = [
        (
            s.name,
            s.rows,
            s.metric,
            _number(s.value),
            _number(s.rest),
            _interval(s.worse_by, s.low, s.high),
            "" if s.held_out is None else _number(s.held_out),
        )
        for s in segments
    ]
    show.table(("segment", "rows", "", "there", "elsewhere", "worse by", "there, held out"), rows)


def _explained(explained: Explained) -> None:
    before, after = _number(explained.before), _number(explained.after)
    print(show.bold(f"mean of {explained.of}: {before} → {after}, and what moved it"))
    rows = [
        (
            c.column,
            _interval(c.moved, c.low, c.high),
            "" if c.share is None else f"{c.share:.0%}",
        )
        for c in explained.columns
    ]
    show.table(("column", "moved it by", "of the shift"), rows)


def _figure(figure: Figure | None) -> str:
    return "" if figure is None else _interval(figure.value, figure.low, figure.high)


def _interval(value: float, low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return _number(value)
    return f"{_number(value)} ({_number(low)} to {_number(high)})"


def _number(number: float) -> str:
    return f"{number:,.0f}" if abs(number) >= 10_000 else f"{number:,.4g}"
