"""A column then and now: its values in training and in a window, as bars or as a histogram."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from charkha.data.profiles.profile import (
    Categories,
    CategoriesSeen,
    Column,
    ColumnSeen,
    Floats,
    Numbers,
    NumbersSeen,
    Texts,
    TextsSeen,
)
from charkha.monitoring.reporting.markup import Markup, tag
from charkha.monitoring.reporting.svg import Scale, box, figure, label, line, steps, ticks, written

_WIDTH, _HEIGHT = 340.0, 132.0
_BINS = 36
_FEW = 40  # distinct values that get a bin each
_LABELS = 7
_YEARS = (1500, 2200)  # whole numbers between them are years
_TAIL = 0.005  # of the rows on each side that share the outermost bins
_LONGEST = 18  # characters of a label


class Histogram(NamedTuple):
    """Shares of the rows between bounds; of all rows that have a value."""

    bounds: Floats  # (n + 1,)
    then: Floats  # (n,)
    now: Floats  # (n,)


class Cumulated(NamedTuple):
    """What part of a side's values lies below which value; two points at a value are a step."""

    at: Floats
    shares: Floats


def distribution(name: str, profile: Column, seen: ColumnSeen) -> Markup | None:
    """Return the picture of a column; None where one side has no values."""
    if not profile.known or not seen.known:
        return None
    if isinstance(profile, Numbers) and isinstance(seen, NumbersSeen):
        return _numbers(name, profile, seen)
    if isinstance(profile, Categories) and isinstance(seen, CategoriesSeen):
        return _labels(name, profile, seen)
    if isinstance(profile, Texts) and isinstance(seen, TextsSeen) and seen.lengths.known:
        return _numbers(f"length of {name}", profile.lengths, seen.lengths)
    return None


def histogram(profile: Numbers, seen: NumbersSeen) -> Histogram:
    """Return both sides in the same bins, between them all rows that have a value."""
    sides = [_of_training(profile), _of_window(profile, seen)]
    bounds = _bounds(profile.edges, sides)
    shares = []
    for at, cumulated in sides:
        below = np.interp(bounds, at, cumulated)
        below[0], below[-1] = 0.0, 1.0  # the tails are in the outermost bins
        shares.append(np.diff(below))
    return Histogram(bounds, shares[0], shares[1])


def _of_training(profile: Numbers) -> Cumulated:
    both = np.stack([profile.below, profile.upto], axis=1).ravel() / profile.known
    return Cumulated(np.repeat(profile.edges, 2), both)


def _of_window(profile: Numbers, seen: NumbersSeen) -> Cumulated:
    """Return a window, of whose values beyond the edges only the mean and the quartiles are known."""
    at = np.repeat(profile.edges, 2)
    both = np.stack([seen.below, seen.upto], axis=1).ravel() / seen.known
    quartiles = np.array(seen.quartiles or ())
    high = seen.known - int(seen.upto[-1])
    if high:
        x, y = _beyond(float(at[-1]), float(both[-1]), quartiles, seen.beyond / high)
        at, both = np.append(at, x), np.append(both, y)
    if low := int(seen.below[0]):  # the same, seen in a mirror
        mirrored = -quartiles[::-1]
        x, y = _beyond(-float(at[0]), 1 - float(both[0]), mirrored, seen.beneath / low)
        at, both = np.append(-x[::-1], at), np.append(1 - y[::-1], both)
    return Cumulated(at, both)


def _beyond(edge: float, upto: float, quartiles: Floats, mean: float) -> tuple[Floats, Floats]:
    """Return points of a cumulated distribution above its last edge; `mean` is from there."""
    shares = np.array([0.25, 0.5, 0.75])[: len(quartiles)]
    outside = (quartiles > edge) & (shares > upto)
    x, y = quartiles[outside], shares[outside]
    if len(x) == 3:  # all is there: nothing lies far before the first quartile
        x, y = np.append(max(edge, 2 * x[0] - x[1]), x), np.append(upto, y)
    step = x[-1] - x[-2] if len(x) > 1 else mean
    end = max(x[-1] + 2 * step, edge + mean) if len(x) else edge + 2 * mean
    return np.append(x, end), np.append(y, 1.0)


def _bounds(edges: Floats, sides: Sequence[Cumulated]) -> Floats:
    least, most = min(s.at[0] for s in sides), max(s.at[-1] for s in sides)
    if len(edges) <= _FEW and len(edges) > 1:  # a bin around each value
        middles = (edges[1:] + edges[:-1]) / 2
        first, last = edges[0] - (middles[0] - edges[0]), edges[-1] + (edges[-1] - middles[-1])
        return np.concatenate([[min(first, least)], middles, [max(last, most)]])
    low = min(_quantile(side, _TAIL) for side in sides)
    high = max(_quantile(side, 1 - _TAIL) for side in sides)
    if high <= low:
        half = abs(low) / 2 or 0.5
        low, high = low - half, low + half
    return np.linspace(low, high, _BINS + 1)


def _quantile(side: Cumulated, share: float) -> float:
    return float(np.interp(share, side.shares, side.at))


def _numbers(name: str, profile: Numbers, seen: NumbersSeen) -> Markup:
    found = histogram(profile, seen)
    x = Scale(low=float(found.bounds[0]), high=float(found.bounds[-1]), start=8, end=_WIDTH - 8)
    floor, top = _HEIGHT - 22, 24.0
    y = Scale(
        low=0.0, high=float(max(found.then.max(), found.now.max())) or 1.0, start=floor, end=top
    )
    xs = [x(float(bound)) for bound in found.bounds]
    parts = [
        steps(xs, [y(float(share)) for share in found.then], floor, "then"),
        steps(xs, [y(float(share)) for share in found.now], floor, "now"),
        line(8, floor, _WIDTH - 8, floor, "axis"),
    ]
    for value in ticks(x.low, x.high, 4):
        shown = _shown(profile, value)
        parts.append(label(_inside(x(value), shown), floor + 15, shown, anchor="middle"))
    was = profile.quantile(0.5)
    is_now = seen.quartiles[1] if seen.quartiles else was
    parts += _medians(x(was), x(is_now), top, floor)
    said = [_shown(profile, value) for value in (was, is_now)]
    told = f"median {said[0]} in training, {said[1]} now"
    return figure(f"Distribution of {name}", told, _WIDTH, _HEIGHT, *parts)


def _medians(was: float, now: float, top: float, floor: float) -> list[Markup]:
    """Return lines at both medians, each with its name on the side away from the other."""
    (low, first), (high, second) = sorted([(was, "training"), (now, "now")])
    left = max(low - 4, _room(first) + 2)  # where the first name ends, and the second begins
    right = min(max(high + 4, left + 8), _WIDTH - _room(second) - 2)
    left = min(left, right - 8)
    of = {"training": "was-name", "now": "now-name"}
    return [
        line(was, top - 8, was, floor, "was-line"),
        line(now, top - 8, now, floor, "now-line"),
        label(left, 11, first, of=of[first], anchor="end"),
        label(right, 11, second, of=of[second], anchor="start"),
    ]


def _room(text: str) -> float:
    return 6.4 * len(text)


def _shown(profile: Numbers, value: float) -> str:
    """Return a value of the column; years without a comma."""
    ends = profile.edges[0], profile.edges[-1]
    years = _YEARS[0] <= ends[0] and ends[1] <= _YEARS[1] and not (profile.edges % 1).any()
    if years and value % 1 == 0:
        return f"{value:.0f}"
    return written(value, as_moment=profile.moments)


def _inside(x: float, text: str) -> float:
    half = 3.2 * len(text)
    return min(max(x, half + 1), _WIDTH - half - 1)


def _labels(name: str, profile: Categories, seen: CategoriesSeen) -> Markup:
    rows = _shares(profile, seen)
    most = max(max(then, now) for _, then, now in rows) or 1.0
    shown = [text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…" for text, _, _ in rows]
    left = 16 + 6.2 * max(map(len, shown))
    x = Scale(low=0.0, high=most, start=left, end=_WIDTH - 92)
    parts: list[Markup] = []
    for at, (_, then, now) in enumerate(rows):
        top = 20.0 + at * 25
        parts += [
            label(left - 8, top + 12, shown[at], of="ink", anchor="end"),
            box(left, top, x(then) - left, 8, "then-bar"),
            box(left, top + 9, x(now) - left, 8, "now-bar"),
            label(max(x(then), x(now)) + 6, top + 12, f"{_percent(then)} → {_percent(now)}"),
        ]
    names = tag(
        "text",
        tag("tspan", "training", class_="was-name"),
        tag("tspan", " → ", class_="soft"),
        tag("tspan", "now", class_="now-name"),
        x=min(max(x(rows[0][1]), x(rows[0][2])) + 6, _WIDTH - 92),
        y=11,
    )
    told = "; ".join(f"{text} {_percent(then)} → {_percent(now)}" for text, then, now in rows)
    height = 26.0 + 25 * len(rows)
    return figure(f"Distribution of {name}", told, _WIDTH, height, names, *parts)


def _shares(profile: Categories, seen: CategoriesSeen) -> list[tuple[str, float, float]]:
    """Return labels with their shares then and now, the commonest first, and all others as one."""
    counted = int(profile.counts.sum()) + profile.other
    then = {text: int(n) / counted for text, n in zip(profile.labels, profile.counts, strict=True)}
    whole = max(int(seen.counts.sum()) + seen.other, 1)
    now = {text: int(n) / whole for text, n in zip(profile.labels, seen.counts, strict=True)}
    new = {
        f"{text} (new)" if not profile.other else text: n / whole
        for text, n in seen.unknown.items()
    }
    now |= new
    order = sorted(now, key=lambda text: -max(then.get(text, 0.0), now[text]))
    kept = order[:_LABELS] if len(order) > _LABELS + 1 else order
    rows = [(text, then.get(text, 0.0), now[text]) for text in kept]
    then_left, now_left = (max(1 - sum((row[1:])[side] for row in rows), 0.0) for side in (0, 1))
    if max(then_left, now_left) > 0.0005:
        more = len(order) - len(kept)
        rows.append((f"{more} others" if more else "others", then_left, now_left))
    return rows


def _percent(share: float) -> str:
    percent = share * 100
    return f"{percent:.0f} %" if percent >= 9.95 or percent < 0.05 else f"{percent:.1f} %"
