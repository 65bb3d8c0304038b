"""A report on a version: what is found, over time, column by column, and what happened."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from charkha.monitoring.causes import plain
from charkha.monitoring.reporting.distributions import distribution
from charkha.monitoring.reporting.gathering import Gathered, gather
from charkha.monitoring.reporting.markup import Markup, joined, tag
from charkha.monitoring.reporting.page import facts, page, pill, section, table
from charkha.monitoring.reporting.svg import Scale, box, figure, label, line, written
from charkha.monitoring.reporting.timeline import numbered, timeline
from charkha.monitoring.reporting.verdict import judged, summary

if TYPE_CHECKING:
    from charkha.monitoring.alerts import Alert
    from charkha.monitoring.drift import ColumnVerdict
    from charkha.monitoring.explaining import Contribution, Explained
    from charkha.monitoring.performance import Performance, Segment
    from charkha.monitoring.reporting.moments import Moment
    from charkha.project import Project

_SEGMENTS = 12


def make_report(
    project: Project,
    reference: str,
    *,
    since: str | datetime | None = None,
    until: str | datetime | None = None,
    window: str | None = None,
    now: datetime | None = None,
) -> str:
    """Return a report as one HTML document that needs nothing else.

    Args:
        project: whose registry, records, ledger and settings are used.
        reference: `house-prices` (its champion), `house-prices@3`.
        since: as `charkha.read_records`; from the first record without it.
        until: the same; now without it.
        window: size of one window; without it that of `[monitoring]`, or so that there are few.
        now: when it is made.

    Raises:
        UserError: there is no such version, size or moment.
        BackendError: the registry, the records or the ledger refuse.
    """
    return written_report(
        gather(project, reference, since=since, until=until, window=window, now=now)
    )


def written_report(gathered: Gathered) -> str:
    """Return the document."""
    parts = [
        _alerts(gathered),
        _timeline(gathered),
        _columns(gathered),
        _explained(gathered.explained),
        _segments(gathered.performance),
        _story(gathered),
        _skipped(gathered),
    ]
    made = gathered.made_at.astimezone(UTC)
    foot = f"Made by Charkha on {made:%Y-%m-%d at %H:%M:%S} UTC; all times are UTC."
    title = f"{gathered.version}, {made:%Y-%m-%d}"
    return page(title, _top(gathered), tag("main", *parts), foot=foot)


def _top(gathered: Gathered) -> Markup:
    told = summary(gathered)
    since = gathered.since
    span = f"{since:%Y-%m-%d %H:%M} to " if since else "until "
    return tag(
        "header",
        tag(
            "p",
            pill(told.word, told.tone),
            tag("b", gathered.version),
            tag("span", f"project {gathered.project}"),
            tag("span", f"{span}{gathered.until:%Y-%m-%d %H:%M} UTC"),
            class_="top",
        ),
        tag("h1", told.sentence),
        *(tag("p", detail, class_="lead") for detail in told.details),
        facts([*_facts(gathered)]),
    )


def _facts(gathered: Gathered) -> Iterator[tuple[str, str, str]]:
    checked, performance = gathered.checked, gathered.performance
    last = judged(checked)
    if checked is not None:
        rows = sum(v.rows for v in checked.verdicts)
        count = len(checked.verdicts)
        yield "predictions", f"{rows:,}", f"{_plural(count, 'window')} of {gathered.window}"
    if last is not None:
        yield "columns that drifted", str(len(last.drifted)), f"of {len(last.columns)} looked at"
    judged_last = performance.last_judged if performance else None
    for metric in judged_last.metrics[:2] if judged_last else ():
        yield metric.metric, written(metric.value), f"held out: {written(metric.held_out)}"
    if performance is not None:
        known = sum(w.labelled for w in performance.windows)
        rows = sum(w.rows for w in performance.windows)
        yield "ground truth", f"{known:,}", f"of {rows:,} predictions"
    oldest = min((a.opened_at for a in gathered.alerts), default=None)
    since = f"the oldest since {_at(oldest)}" if oldest else "nobody was called"
    yield "open alerts", str(len(gathered.alerts)), since


def _alerts(gathered: Gathered) -> Markup | None:
    if not gathered.alerts:
        return None
    return section("Open alerts", *(_alert(alert) for alert in gathered.alerts))


def _alert(alert: Alert) -> Markup:
    cause = alert.cause
    tone = "bad" if cause.severity == "critical" else "watch"
    about = f"{cause.subject} · {alert.id} · since {_at(alert.opened_at)}"
    return tag(
        "div",
        tag("div", tag("h3", cause.title), pill(cause.severity, tone), class_="head"),
        _reasons(alert),
        tag("p", about, class_="small"),
        class_="card bad",
    )


def _reasons(alert: Alert) -> Markup:
    """Return the reason; of columns each in a line of its own."""
    columns = alert.cause.numbers.get("columns")
    if not isinstance(columns, Mapping):
        return tag("p", alert.cause.text, class_="because")
    lines = [
        tag("li", tag("b", plain(str(name))), f": {told['because']}")
        for name, told in columns.items()
        if isinstance(told, Mapping) and "because" in told
    ]
    return tag("ul", *lines) if lines else tag("p", alert.cause.text, class_="because")


def _timeline(gathered: Gathered) -> Markup | None:
    drawn = timeline(gathered)
    if drawn is None:
        return None
    note = (
        "Each block is a window of predictions against the training data; a number in it counts the "
        "columns that drifted. Bars are 95 % intervals. The dashed line is the version's score on "
        "held-out rows. An estimate is made before the ground truth is there, and is no measurement."
    )
    return section("Over time", tag("div", drawn, class_="card scroll"), note=note)


def _columns(gathered: Gathered) -> Markup | None:
    last = judged(gathered.checked)
    if last is None:
        return None
    since = gathered.checked.alarm.since if gathered.checked else {}
    cards = [_column(gathered, c, since) for c in last.columns]
    drifted = [card for card, c in zip(cards, last.columns, strict=True) if c.drifted]
    others = [card for card, c in zip(cards, last.columns, strict=True) if not c.drifted]
    note = (
        f"Grey is the training data, the blue line the newest window with a verdict "
        f"({last.rows:,} rows). Dotted lines are medians. «Shift» is by how many standard deviations a "
        "normal column would have to move to change as much; p is corrected for the other columns."
    )
    steady = f"{_plural(len(others), 'column')} without drift"
    return section(
        "Columns then and now",
        tag("div", *drifted, class_="grid") if drifted else None,
        tag("details", tag("summary", steady), tag("div", *others, class_="grid"), open="open")
        if others
        else None,
        note=note,
    )


def _column(
    gathered: Gathered, column: ColumnVerdict, since: Mapping[str, datetime | None]
) -> Markup:
    profile, seen = gathered.profile.get(column.column), gathered.seen.get(column.column)
    name = plain(column.column)
    drawn = distribution(name, profile, seen) if profile and seen else None
    began = since.get(column.column)
    told_already = "missing" in column.counting
    was, now = (f"{part * 100:.2g} %" for part in column.missing)
    told = [
        f"shift {column.effects.shift_sd:.2f} σ",
        f"PSI {column.effects.psi:.2f}",
        f"p {_p(column.p)}",
        *([f"by {', '.join(column.counting)}"] if column.counting else []),
        *([f"missing {was} → {now}"] if any(column.missing) and not told_already else []),
        *([f"since {began:%Y-%m-%d %H:%M}"] if began else []),
    ]
    return tag(
        "article",
        tag(
            "div", tag("h3", name), pill("drift", "bad") if column.drifted else None, class_="head"
        ),
        tag("p", column.because, class_="because") if column.drifted else None,
        drawn or tag("p", "No values on one side, so there is nothing to draw.", class_="note"),
        *(tag("p", notice, class_="small") for notice in column.notices if not column.drifted),
        tag("p", " · ".join(told), class_="small"),
        class_="card bad" if column.drifted else "card",
    )


def _explained(explained: Explained | None) -> Markup | None:
    """Draw which columns moved the mean prediction, and by how much."""
    if explained is None or not explained.columns:
        return None
    shown = explained.columns[:10]
    ends = [0.0, *(c.low for c in shown), *(c.high for c in shown)]
    x = Scale(low=min(ends), high=max(ends), start=190, end=560)
    parts: list[Markup] = [line(x(0.0), 4, x(0.0), 8 + 26 * len(shown), "axis")]
    for at, column in enumerate(shown):
        top = 10.0 + at * 26
        left, right = sorted((x(0.0), x(column.moved)))
        parts += [
            label(180, top + 12, column.column, of="ink", anchor="end"),
            box(left, top, right - left, 16, "gain" if column.moved > 0 else "loss"),
            line(x(column.low), top + 8, x(column.high), top + 8, "axis"),
            label(576, top + 12, _part(column)),
        ]
    told = "; ".join(f"{c.column} {_signed(c.moved)}" for c in shown)
    drawn = figure("Parts of the change in predictions", told, 700, 14 + 26 * len(shown), *parts)
    note = (
        f"The mean of {explained.of} went from {written(explained.before)} to "
        f"{written(explained.after)}. Each bar is what one column's new values did to it, with its "
        "95 % interval."
    )
    return section("Why the predictions moved", tag("div", drawn, class_="card scroll"), note=note)


def _part(column: Contribution) -> str:
    """Return what a column moved, and as a part of the whole."""
    if column.share is None:  # the whole is nothing
        return _signed(column.moved)
    return f"{_signed(column.moved)} ({_signed(round(column.share * 100))} %)"


def _segments(performance: Performance | None) -> Markup | None:
    if performance is None or not performance.segments:
        return None
    columns = (
        ("segment", False),
        ("rows", True),
        ("metric", False),
        ("here", True),
        ("elsewhere", True),
        ("held out here", True),
        ("worse by", True),
        ("p", True),
    )
    rows = [_segment(segment) for segment in performance.segments[:_SEGMENTS]]
    note = (
        "Rows with something in common for which the model errs more than for the others, found by "
        "search; p is corrected for all segments that were looked at."
    )
    return section("Where it is worst", tag("div", table(columns, rows), class_="card"), note=note)


def _segment(segment: Segment) -> list[str]:
    return [
        segment.name,
        f"{segment.rows:,} ({segment.part * 100:.0f} %)",
        segment.metric,
        written(segment.value),
        written(segment.rest),
        "" if segment.held_out is None else written(segment.held_out),
        f"{written(segment.worse_by)} ({written(segment.low)} to {written(segment.high)})",
        _p(segment.p),
    ]


def _story(gathered: Gathered) -> Markup | None:
    if not gathered.moments:
        return None
    items = [_moment(n, moment) for n, moment in numbered(gathered.moments)]
    note = "From the ledger, oldest first. The numbers are those of the timeline."
    return section("What happened", tag("ol", *items, class_="story"), note=note)


def _moment(n: int, moment: Moment) -> Markup:
    at = datetime.fromtimestamp(moment.at, UTC)
    return tag(
        "li",
        tag("span", str(n), class_=f"n {moment.tone}"),
        tag("time", f"{at:%Y-%m-%d %H:%M:%S}", datetime=at.isoformat(timespec="seconds")),
        tag(
            "div",
            joined(tag("b", moment.subject), f" {moment.what}"),
            tag("div", f"{moment.because} ({moment.who})", class_="because"),
        ),
    )


def _skipped(gathered: Gathered) -> Markup | None:
    if not gathered.skipped:
        return None
    items = [
        part for what, why in gathered.skipped for part in (tag("dt", plain(what)), tag("dd", why))
    ]
    return section("What was skipped, and why", tag("dl", *items, class_="why"))


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _at(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M}"


def _signed(value: float) -> str:
    return f"{'−' if value < 0 else '+'}{written(abs(value))}"


def _p(p: float) -> str:
    return "< 1e-300" if p < 1e-300 else f"{p:.2g}"
