"""The timeline: windows and their verdicts, performance, and what happened, over one axis of time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from charkha.monitoring.causes import plain
from charkha.monitoring.reporting.markup import Markup, number, tag
from charkha.monitoring.reporting.svg import (
    Scale,
    box,
    figure,
    label,
    line,
    moments,
    ticks,
    written,
)

if TYPE_CHECKING:
    from charkha.monitoring.drift import Verdict
    from charkha.monitoring.performance import Figure, Performance, WindowPerformance
    from charkha.monitoring.reporting.gathering import Gathered
    from charkha.monitoring.reporting.moments import Moment

WIDTH = 960.0
_LEFT, _RIGHT = 96.0, WIDTH - 104.0
_PANEL = 132.0  # height of one metric
_METRICS = 3
_APART = 12.0  # between the lines of two labels
_WORDS = {"drift": "bad-fill", "no drift": "good-fill", "not enough data": "none-fill"}


def timeline(gathered: Gathered) -> Markup | None:
    """Return the picture; None where there is no window."""
    verdicts = gathered.checked.verdicts if gathered.checked else ()
    windows = gathered.performance.windows if gathered.performance else ()
    ends = [_unix(at) for v in verdicts for at in (v.since, v.until) if at is not None]
    ends += [_unix(at) for w in windows for at in (w.since, w.until)]
    if not ends:
        return None
    x = _scale(min(ends), max(ends), gathered.moments)
    parts, bottom = _drift(x, verdicts), 62.0
    for metric in _metrics(gathered.performance)[:_METRICS]:
        if gathered.performance is not None:
            parts += _metric(x, gathered.performance, metric, bottom)
            bottom += _PANEL
    marks, bottom = _marks(x, gathered.moments, bottom + 10)
    axis = _axis(x, bottom)
    told = (
        f"{len(verdicts)} windows, {sum(v.outcome == 'drift' for v in verdicts)} of them with drift"
    )
    title = f"Timeline of {gathered.version}"
    return figure(title, told, WIDTH, bottom + 24, *axis, *marks, *parts)


def numbered(found: Sequence[Moment]) -> list[tuple[int, Moment]]:
    """Return moments with the numbers that they have in the picture and in the list."""
    return list(enumerate(found, 1))


def _scale(first: float, last: float, happened: Sequence[Moment]) -> Scale:
    """Return an axis over the windows, and over what happened shortly before and after them."""
    width = max(last - first, 1.0)
    near = [m.at for m in happened if first - width * 0.15 <= m.at <= last + width * 0.15]
    low, high = min([first, *near]), max([last, *near])
    pad = max(high - low, 1.0) * 0.02
    return Scale(low=low - pad, high=high + pad, start=_LEFT, end=_RIGHT)


def _axis(x: Scale, bottom: float) -> list[Markup]:
    parts = [line(_LEFT, bottom, _RIGHT, bottom, "axis")]
    for at, text in moments(x.low, x.high):
        parts.append(line(x(at), 16, x(at), bottom, "grid"))
        parts.append(label(x(at), bottom + 16, text, anchor="middle"))
    return parts


def _drift(x: Scale, verdicts: Sequence[Verdict]) -> list[Markup]:
    parts = [label(0, 38, "drift", of="lane")]
    for verdict in verdicts:
        if verdict.since is None or verdict.until is None:
            continue
        left, right = x(_unix(verdict.since)), x(_unix(verdict.until))
        width = max(right - left - 1, 3.0)
        told = ", ".join(plain(column) for column in verdict.drifted)
        title = f"{verdict.outcome}: {verdict.rows:,} rows{f': {told}' if told else ''}"
        parts.append(box(left, 22, width, 24, _WORDS[verdict.outcome], title))
        if verdict.drifted and width > 18:
            count = str(len(verdict.drifted))
            parts.append(label(left + width / 2, 38, count, of="on-bad", anchor="middle"))
    if verdicts:
        last = verdicts[-1].outcome
        of = {"drift": "bad", "no drift": "good"}.get(last, "soft")
        parts.append(
            label(_RIGHT + 8, 38, "too few rows" if last == "not enough data" else last, of=of)
        )
    return parts


def _metrics(performance: Performance | None) -> list[str]:
    """Return the metrics that there is something to draw of, in the order of the windows."""
    if performance is None:
        return []
    found: dict[str, None] = {}
    for window in performance.windows:
        found |= dict.fromkeys(m.metric for m in window.metrics)
        found |= dict.fromkeys(e.metric for e in window.estimates)
    return list(found)


def _metric(x: Scale, performance: Performance, metric: str, top: float) -> list[Markup]:
    held = next((f for f in performance.held_out if f.metric == metric), None)
    y = _heights(performance, metric, held, top)
    parts = [label(0, top + 28, metric, of="lane")]
    for value in ticks(y.low, y.high, 3):
        parts.append(line(_LEFT, y(value), _RIGHT, y(value), "grid"))
        parts.append(label(_LEFT - 8, y(value) + 4, written(value), anchor="end"))
    names: list[tuple[float, str, str]] = []
    if held is not None:
        if ends := _known(held):
            height = y(min(ends)) - y(max(ends))
            parts.append(box(_LEFT, y(max(ends)), _RIGHT - _LEFT, height, "held-band"))
        parts.append(line(_LEFT, y(held.value), _RIGHT, y(held.value), "held"))
        names.append((y(held.value), "held out", "soft"))
    for window in performance.windows:
        parts += _window(x, y, window, metric)
    names += _last_names(performance, metric, y)
    return parts + _apart(names)


def _known(figure: Figure) -> list[float]:
    """Return the ends of its interval; none where there is no interval."""
    return [end for end in (figure.low, figure.high) if end is not None]


def _heights(performance: Performance, metric: str, held: Figure | None, top: float) -> Scale:
    values = [held.value, *_known(held)] if held else []
    for window in performance.windows:
        values += [v for m in window.metrics if m.metric == metric for v in (m.low, m.high)]
        for estimate in window.estimates:
            values += [estimate.value, *_known(estimate)] if estimate.metric == metric else []
    low, high = min(values), max(values)
    pad = (high - low or abs(high) or 1.0) * 0.08
    return Scale(low=low - pad, high=high + pad, start=top + _PANEL - 10, end=top + 14)


def _window(x: Scale, y: Scale, window: WindowPerformance, metric: str) -> list[Markup]:
    middle = (x(_unix(window.since)) + x(_unix(window.until))) / 2
    parts: list[Markup] = []
    for estimate in window.estimates:
        if estimate.metric == metric:
            ends = _known(estimate) or [estimate.value]
            at, title = middle + 6, f"estimate {_interval(estimate.value, min(ends), max(ends))}"
            parts.append(line(at, y(min(ends)), at, y(max(ends)), "estimate-line"))
            parts.append(_diamond(at, y(estimate.value), title))
    for measured in window.metrics:
        if measured.metric == metric:
            of = "bad" if measured.lower else "now"
            title = f"{metric} {_interval(measured.value, measured.low, measured.high)}, "
            title += f"{window.labelled:,} rows with ground truth: {measured.because}"
            parts.append(line(middle, y(measured.low), middle, y(measured.high), f"{of}-whisker"))
            dot = tag("title", title)
            parts.append(
                tag("circle", dot, cx=middle, cy=y(measured.value), r=4, class_=f"{of}-dot")
            )
    return parts


def _diamond(x: float, y: float, title: str) -> Markup:
    path = "".join(
        f"{move}{number(x + dx)} {number(y + dy)}"
        for move, dx, dy in (("M", 0, -5), ("L", 5, 0), ("L", 0, 5), ("L", -5, 0))
    )
    return tag("path", tag("title", title), d=f"{path}Z", class_="estimate")


def _last_names(performance: Performance, metric: str, y: Scale) -> list[tuple[float, str, str]]:
    """Return names for the newest measured value and the newest estimate, each where it stands."""
    names: list[tuple[float, str, str]] = []
    measured = [m for w in performance.windows for m in w.metrics if m.metric == metric]
    estimates = [e for w in performance.windows for e in w.estimates if e.metric == metric]
    if measured:
        names.append(
            (y(measured[-1].value), "measured", "bad" if measured[-1].lower else "now-name")
        )
    if estimates:
        names.append((y(estimates[-1].value), "estimate", "estimate-name"))
    return names


def _apart(names: list[tuple[float, str, str]]) -> list[Markup]:
    """Return labels at the right end, moved so that none lies on another."""
    parts: list[Markup] = []
    least = 0.0
    for at, text, of in sorted(names):
        least = max(at, least + _APART if parts else at)
        parts.append(label(_RIGHT + 8, least + 4, text, of=of))
    return parts


def _marks(x: Scale, happened: Sequence[Moment], top: float) -> tuple[list[Markup], float]:
    """Return numbered marks, in as many rows as it takes, and where they end."""
    inside = [(n, m) for n, m in numbered(happened) if x.low <= m.at <= x.high]
    if not inside:
        return [], top
    parts, ends = [label(0, top + 14, "events", of="lane")], [0.0]
    for n, moment in inside:
        at = x(moment.at)
        row = next((i for i, end in enumerate(ends) if at - end >= 19), None)
        if row is None:
            row = len(ends)
            ends.append(0.0)
        ends[row] = at
        height = top + 10 + row * 20
        title = tag("title", f"{moment.subject}: {moment.what}")
        parts += [
            line(at, 16, at, height - 8, f"{moment.tone}-thread"),
            tag("circle", title, cx=at, cy=height, r=8.5, class_=f"{moment.tone}-mark"),
            label(at, height + 3.5, str(n), of="on-mark", anchor="middle"),
        ]
    return parts, top + 10 + len(ends) * 20


def _interval(value: float, low: float, high: float) -> str:
    return f"{written(value)} ({written(low)} to {written(high)})"


def _unix(at: datetime) -> float:
    return at.timestamp()
