"""Verdicts as gauges: what the ledger and the states say of a model, as numbers for Prometheus.

Pure, and it reads with care: the rooms that write these decisions stand below this one, and a number
that is not there, or is something else, is not shown.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from charkha.models.metrics import METRICS
from charkha.serving.families import FAMILIES

if TYPE_CHECKING:
    from charkha.serving.counts import Key

DRIFT, PERFORMANCE, ALERT, LOOP, RELEASE = "drift", "performance", "alert", "loop", "release"
PHASES = ("judging", "watching", "promoted", "rolled back", "aborted")  # of a release
_VERSIONS = 5  # the newest ones that were judged
_COLUMNS = 50
_OPEN = ("open", "opened", "changed")
Gauges = dict["Key", float]


class Told(Protocol):
    """As much of a decision as gauges are made of."""

    @property
    def at(self) -> float:
        """Unix seconds."""
        ...

    @property
    def subject(self) -> str:
        """What about: `houses@3`."""
        ...

    @property
    def numbers(self) -> Mapping[str, object]:
        """What was decided on."""
        ...


def gauges(
    model: str,
    decisions: Mapping[str, Sequence[Told]],
    release: Mapping[str, Any] | None,
) -> Gauges:
    """Return the value of each gauge.

    Args:
        model: its name.
        decisions: of this model, by kind, each oldest first.
        release: the state of its newest release.
    """
    shown: Gauges = {}
    for version, told in _by_version(model, decisions.get(DRIFT, ())):
        whole = [d for d in told if d.numbers.get("segment") is None]
        if whole:
            _drift(shown, {"model": model, "version": version}, whole)
    for version, told in _by_version(model, decisions.get(PERFORMANCE, ())):
        _performance(shown, {"model": model, "version": version}, told)
    _alerts(shown, model, decisions.get(ALERT, ()))
    _loop(shown, model, decisions.get(LOOP, ()))
    if release is not None:
        _release(shown, model, release)
    return shown


def _put(shown: Gauges, name: str, value: object, labels: Mapping[str, object]) -> None:
    """Show a number, if it is one."""
    number = _number(value)
    if number is not None:
        named = tuple((label, str(labels[label])) for label in FAMILIES[name].labels)
        shown[name, named] = number


def _number(value: object) -> float | None:
    if isinstance(value, bool | int | float) and math.isfinite(value):
        return float(value)
    return None


def _by_version(model: str, decisions: Sequence[Told]) -> Iterator[tuple[str, list[Told]]]:
    """Yield the newest versions, each with its decisions, oldest first."""
    found: dict[str, list[Told]] = {}
    for decision in decisions:
        name, _, version = decision.subject.rpartition("@")
        if name == model and version.isdecimal():
            found.setdefault(version, []).append(decision)
    for version in sorted(found, key=int)[-_VERSIONS:]:
        yield version, found[version]


def _drift(shown: Gauges, about: dict[str, str], told: list[Told]) -> None:
    _put(shown, "charkha_drift_window_rows", told[-1].numbers.get("rows"), about)
    _put(shown, "charkha_drift_window_end_timestamp_seconds", told[-1].at, about)
    judged = [d for d in told if d.numbers.get("outcome") != "not enough data"]
    if not judged:
        return
    last, drifted = judged[-1].numbers, _texts(judged[-1].numbers.get("drifted"))
    _put(shown, "charkha_drift", last.get("outcome") == "drift", about)
    _put(shown, "charkha_drift_columns", len(drifted), about)
    _put(shown, "charkha_drift_windows_in_a_row", _in_a_row(judged, "drifted"), about)
    columns = last.get("columns")
    if isinstance(columns, Mapping):
        for column in _foremost(columns, drifted):
            own, seen = {**about, "column": column}, columns[column]
            _put(shown, "charkha_drift_column", column in drifted, own)
            if isinstance(seen, Mapping):
                _put(shown, "charkha_drift_column_psi", seen.get("psi"), own)
                _put(shown, "charkha_drift_column_shift", seen.get("shift_sd"), own)


def _texts(value: object) -> list[str]:
    return [str(each) for each in value] if isinstance(value, list) else []


def _foremost(columns: Mapping[str, Any], drifted: Sequence[str]) -> list[str]:
    def order(name: str) -> tuple[bool, float, str]:
        p = columns[name].get("p") if isinstance(columns[name], Mapping) else None
        number = _number(p)
        return name not in drifted, 1.0 if number is None else number, name

    return sorted(columns, key=order)[:_COLUMNS]


def _in_a_row(judged: Sequence[Told], what: str) -> int:
    """Return in how many windows up to the last one the same name is among `what`, at most.

    Windows that begin before the one before them ends were checked a second time, cut otherwise.
    """
    runs: dict[str, int] = {}
    until: datetime | None = None
    for decision in judged:
        since, end = _moment(decision, "since"), _moment(decision, "until")
        if until is not None and since is not None and since <= until:
            continue
        until = end or until
        runs = {name: runs.get(name, 0) + 1 for name in _texts(decision.numbers.get(what))}
    return max(runs.values(), default=0)


def _moment(decision: Told, name: str) -> datetime | None:
    try:
        return datetime.fromisoformat(str(decision.numbers.get(name)))
    except ValueError:
        return None


def _performance(shown: Gauges, about: dict[str, str], told: list[Told]) -> None:
    """Show the newest figure of each metric; of one window's verdicts the one with most labels."""
    ordered = sorted(told, key=lambda d: (d.at, _number(d.numbers.get("labelled")) or 0.0))
    for numbers in (d.numbers for d in ordered):
        for name, one in _metrics(numbers):
            own = {**about, "metric": name}
            _put(shown, "charkha_performance", one.get("value"), own)
            _put(shown, "charkha_performance_low", one.get("low"), own)
            _put(shown, "charkha_performance_high", one.get("high"), own)
            _put(shown, "charkha_performance_held_out", one.get("held_out"), own)
            _put(shown, "charkha_performance_worse", _worse(name, one, numbers.get("lower")), own)
        for name, one in _named(numbers.get("estimates")):
            own = {**about, "metric": name}
            _put(shown, "charkha_performance_estimate", one.get("value"), own)
        _put(shown, "charkha_performance_labelled", numbers.get("labelled"), about)
    measured = [d for d in ordered if d.numbers.get("outcome") != "not enough labels"]
    if measured:
        in_a_row = _in_a_row(_last_of_each_span(measured), "lower")
        _put(shown, "charkha_performance_windows_in_a_row", in_a_row, about)


def _metrics(numbers: Mapping[str, object]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield what is told of each metric: by its name, in a list, or of one alone."""
    listed = numbers.get("metrics", [numbers])
    yield from _named(listed)
    for one in listed if isinstance(listed, list) else []:
        if isinstance(one, Mapping) and isinstance(one.get("metric"), str):
            yield one["metric"], one


def _named(value: object) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if isinstance(value, Mapping):
        yield from ((str(n), one) for n, one in value.items() if isinstance(one, Mapping))


def _last_of_each_span(told: Sequence[Told]) -> list[Told]:
    """Return one verdict for each window: it is judged again as more labels come."""
    spans = {(d.numbers.get("since"), d.numbers.get("until"), _order(d)): d for d in told}
    return list(spans.values())


def _order(decision: Told) -> float:
    """Return what tells windows apart that do not say when they were."""
    return 0.0 if "since" in decision.numbers else decision.at


def _worse(name: str, one: Mapping[str, Any], lower: object) -> bool | None:
    """Whether a metric is worse than held out, as it was judged; else whether its interval is.

    None where neither is known.
    """
    if isinstance(lower, list):
        return name in lower
    metric = METRICS.get(name)
    low, high, held_out = (_number(one.get(end)) for end in ("low", "high", "held_out"))
    if metric is None or low is None or high is None or held_out is None:
        return None
    return low > held_out if metric.better == "lower" else high < held_out


def _alerts(shown: Gauges, model: str, decisions: Sequence[Told]) -> None:
    newest = {str(d.numbers.get("alert", d.subject)): d for d in decisions}
    severities = {"critical": 0, "warning": 0}
    for decision in newest.values():
        numbers = decision.numbers
        severity = str(numbers.get("severity", "warning"))
        is_open = numbers.get("change", numbers.get("state")) in _OPEN
        severities[severity] = severities.get(severity, 0) + is_open
    for severity, count in severities.items():
        _put(shown, "charkha_alerts_open", count, {"model": model, "severity": severity})


def _loop(shown: Gauges, model: str, decisions: Sequence[Told]) -> None:
    newest = {str(d.numbers.get("turn", d.at)): d for d in decisions}
    turns = Counter(
        (str(d.numbers.get("trigger") or "none"), str(d.numbers.get("outcome") or "going on"))
        for d in newest.values()
    )
    for (trigger, outcome), count in turns.items():
        about = {"model": model, "trigger": trigger, "outcome": outcome}
        _put(shown, "charkha_loop_turns", count, about)
    if decisions:
        last = decisions[-1]
        phase = str(last.numbers.get("phase") or "unknown")
        _put(shown, "charkha_loop_phase", 1, {"model": model, "phase": phase})
        _put(shown, "charkha_loop_turn_timestamp_seconds", last.at, {"model": model})


def _release(shown: Gauges, model: str, told: Mapping[str, Any]) -> None:
    state, plan = told.get("state"), told.get("plan")
    if not isinstance(state, Mapping) or not isinstance(plan, Mapping):
        return
    about = {"model": model, "version": told.get("candidate")}
    phase, stage = state.get("phase"), state.get("stage")
    _put(shown, "charkha_release_active", told.get("ended_at") is None, about)
    for name in PHASES:
        _put(shown, "charkha_release_phase", name == phase, {**about, "phase": name})
    _put(shown, "charkha_release_stage", stage, about)
    _put(shown, "charkha_release_share", _share(plan, phase, stage), about)
    _put(shown, "charkha_release_overdue", state.get("overdue"), about)
    _put(shown, "charkha_release_looked_timestamp_seconds", told.get("looked_at"), about)
    changed = told.get("decided_at") or told.get("began_at")
    _put(shown, "charkha_release_changed_timestamp_seconds", changed, about)


def _share(plan: Mapping[str, Any], phase: object, stage: object) -> float | None:
    """Return the part of the traffic that a plan gives the candidate."""
    stages = plan.get("stages")
    if phase == "promoted":
        return 1.0
    if phase in ("rolled back", "aborted"):
        return 0.0
    if phase == "watching":
        kept = _number(plan.get("watch_share"))
        return None if kept is None else 1 - kept / 100
    if not isinstance(stages, list) or not isinstance(stage, int) or not 0 <= stage < len(stages):
        return None
    share = _number(stages[stage].get("share")) if isinstance(stages[stage], Mapping) else None
    return None if share is None else share / 100
