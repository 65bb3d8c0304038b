"""One column of a window held against its profile: tests, sizes, and what changed in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np

from charkha.data.profiles.profile import (
    Categories,
    CategoriesSeen,
    Column,
    ColumnSeen,
    Numbers,
    NumbersSeen,
    Texts,
    TextsSeen,
)
from charkha.models.verdict import show
from charkha.monitoring import cells, effects, statistics
from charkha.monitoring.effects import Effects
from charkha.project import MonitoringSettings

# What part of a column's rate of false alarms each test gets; they sum to 1 for each kind. The rank
# test finds most of what happens, a shift, and so gets most.
_OF_NUMBERS = {"rank": 0.7, "KS": 0.12, "spread": 0.1, "range": 0.04, "missing": 0.04}
_OF_LABELS = {"chi2": 0.85, "new": 0.1, "missing": 0.05}
_OF_TEXTS = {"rank": 0.3, "KS": 0.2, "chi2": 0.45, "missing": 0.05}


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One test of one column."""

    test: str  # "rank" | "KS" | "spread" | "chi2" | "range" | "new" | "missing"
    value: float
    p: float
    weight: float  # its part of the column's rate of false alarms
    matters: bool  # whether what it looks at has changed by so much that it counts
    says: str  # what changed, in words


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What was measured of one column."""

    column: str
    kind: str
    tests: tuple[Measured, ...]
    effects: Effects
    missing: tuple[float, float]  # part of the rows, reference and window
    notices: tuple[str, ...] = field(default=())  # what a person should know, drift or not


def compare(
    name: str, profile: Column, seen: ColumnSeen, settings: MonitoringSettings
) -> Comparison:
    """Compare one column.

    Args:
        name: of the column.
        profile: the reference.
        seen: the window, summed up against that profile.
        settings: from which size on a change matters.
    """
    if isinstance(profile, Numbers) and isinstance(seen, NumbersSeen):
        return _numbers(name, profile, seen, settings)
    if isinstance(profile, Categories) and isinstance(seen, CategoriesSeen):
        return _labels(name, profile, seen, settings)
    if isinstance(profile, Texts) and isinstance(seen, TextsSeen):
        return _texts(name, profile, seen, settings)
    raise TypeError(f"column {name!r}: the window was not summed up against this profile")


def _numbers(
    name: str, profile: Numbers, seen: NumbersSeen, settings: MonitoringSettings
) -> Comparison:
    counted = cells.of_numbers(profile, seen)
    distance = statistics.kolmogorov_smirnov(counted)
    sizes = effects.of_numbers(counted, distance.value, profile, seen)
    matters = sizes.shift_sd >= settings.smallest_shift
    words = effects.directions(profile, seen, _writer(profile))
    measured = {
        "rank": statistics.rank_test(counted),
        "KS": distance,
        "spread": statistics.spread_test(counted),
    }
    found = [
        _measured(test, _OF_NUMBERS, it, matters, words[test]) for test, it in measured.items()
    ]
    outside = _outside(profile, seen, settings)
    missing = _missing(profile, seen, _OF_NUMBERS, settings)
    return Comparison(
        column=name,
        kind=profile.kind,
        tests=(*found, outside, missing),
        effects=sizes,
        missing=_rates(profile, seen),
        notices=_told(outside.value, seen.known, outside.says) + _wrong(seen),
    )


def _labels(
    name: str, profile: Categories, seen: CategoriesSeen, settings: MonitoringSettings
) -> Comparison:
    counted = cells.of_categories(profile, seen)
    sizes = effects.of_labels(counted)
    matters = sizes.shift_sd >= settings.smallest_shift
    found = _measured(
        "chi2",
        _OF_LABELS,
        statistics.chi_squared(cells.of_labels_apart(profile, seen)),
        matters,
        _changed(profile, seen),
    )
    new = _new(profile, seen, settings)
    return Comparison(
        column=name,
        kind=profile.kind,
        tests=(found, new, _missing(profile, seen, _OF_LABELS, settings)),
        effects=sizes,
        missing=_rates(profile, seen),
        notices=_told(new.value, seen.known, new.says),
    )


def _texts(name: str, profile: Texts, seen: TextsSeen, settings: MonitoringSettings) -> Comparison:
    lengths = cells.of_numbers(profile.lengths, seen.lengths)
    distance = statistics.kolmogorov_smirnov(lengths)
    by_length = effects.of_numbers(lengths, distance.value, profile.lengths, seen.lengths)
    words = effects.directions(profile.lengths, seen.lengths, show)
    shapes = cells.of_categories(profile.shapes, seen.shapes)
    by_shape = effects.of_labels(shapes)
    least = settings.smallest_shift
    matters = by_length.shift_sd >= least
    tests = (
        _measured(
            "rank", _OF_TEXTS, statistics.rank_test(lengths), matters, f"length: {words['rank']}"
        ),
        _measured("KS", _OF_TEXTS, distance, matters, f"length: {words['KS']}"),
        _measured(
            "chi2",
            _OF_TEXTS,
            statistics.chi_squared(cells.of_labels_apart(profile.shapes, seen.shapes)),
            by_shape.shift_sd >= least,
            f"shape: {_changed(profile.shapes, seen.shapes)}",
        ),
        _missing(profile, seen, _OF_TEXTS, settings),
    )
    return Comparison(
        column=name,
        kind=profile.kind,
        tests=tests,
        effects=max(by_length, by_shape, key=lambda sizes: sizes.shift_sd),
        missing=_rates(profile, seen),
    )


def _measured(
    test: str, weights: Mapping[str, float], found: statistics.Statistic, matters: bool, says: str
) -> Measured:
    return Measured(
        test=test, value=found.value, p=found.p, weight=weights[test], matters=matters, says=says
    )


def _missing(
    profile: Column, seen: ColumnSeen, weights: Mapping[str, float], settings: MonitoringSettings
) -> Measured:
    """Compare the rates of values that are not there, or are not what the column is made of."""
    lacks = seen.rows - seen.known
    found = statistics.shares_differ((profile.missing, profile.rows), (lacks, seen.rows))
    was, now = _rates(profile, seen)
    says = f"missing {_percent(was)} → {_percent(now)}"
    return _measured("missing", weights, found, abs(found.value) >= settings.smallest_share, says)


def _outside(profile: Numbers, seen: NumbersSeen, settings: MonitoringSettings) -> Measured:
    """Count the values that are less than any value of the reference, or greater."""
    low = int(seen.below[0]) if len(seen.below) else 0
    high = seen.known - int(seen.upto[-1]) if len(seen.upto) else 0
    tails = [statistics.all_in_window(n, profile.known, seen.known) for n in (low, high)]
    outside = low + high
    share = outside / seen.known if seen.known else 0.0
    if outside:
        write, ends = _writer(profile), (float(profile.edges[0]), float(profile.edges[-1]))
        says = f"{_rows(outside, share)} beyond {write(ends[0])} to {write(ends[1])}"
    else:
        says = "none beyond the range of the reference"
    p = min(1.0, 2 * min(tails))
    found = statistics.Statistic(float(outside), p)
    return _measured("range", _OF_NUMBERS, found, share >= settings.smallest_share, says)


def _new(profile: Categories, seen: CategoriesSeen, settings: MonitoringSettings) -> Measured:
    """Count the rows whose label the reference never had.

    The commonest new label decides: how probable is it that all rows of one label, whichever, are
    in the window? Where the reference has more labels than are kept, nobody knows which are new.
    """
    if profile.other or not seen.unknown:
        says = "no label that the reference never had"
        return _measured("new", _OF_LABELS, statistics.NOTHING._replace(value=0.0), False, says)
    commonest = next(iter(seen.unknown.values()))
    kinds = len(profile.labels) + len(seen.unknown)
    p = min(1.0, kinds * statistics.all_in_window(commonest, profile.known, seen.known))
    share = seen.other / seen.known
    names = ", ".join(repr(label) for label in list(seen.unknown)[:3])
    more = f" and {len(seen.unknown) - 3} more" if len(seen.unknown) > 3 else ""
    says = f"new: {names}{more}, {_rows(seen.other, share)}"
    found = statistics.Statistic(float(seen.other), p)
    return _measured("new", _OF_LABELS, found, share >= settings.smallest_share, says)


def _changed(profile: Categories, seen: CategoriesSeen) -> str:
    """Say which label's share changed most: `'North' 34 % → 51 %`."""
    if not profile.known or not seen.known:
        return "no values"
    was = np.append(profile.counts, profile.other) / (profile.counts.sum() + profile.other)
    now = np.append(seen.counts, seen.other) / max(int(seen.counts.sum()) + seen.other, 1)
    at = int(np.abs(now - was).argmax())
    name = repr(profile.labels[at]) if at < len(profile.labels) else "other labels"
    return f"{name} {_percent(float(was[at]))} → {_percent(float(now[at]))}"


def _rates(profile: Column, seen: ColumnSeen) -> tuple[float, float]:
    now = (seen.rows - seen.known) / seen.rows if seen.rows else 0.0
    return profile.missing / profile.rows, now


def _wrong(seen: NumbersSeen) -> tuple[str, ...]:
    if not seen.wrong:
        return ()
    return (f"{_rows(seen.wrong, seen.wrong / seen.rows)} of another type",)


def _told(count: float, known: int, says: str) -> tuple[str, ...]:
    return (says,) if count and known else ()


def _rows(count: int, share: float) -> str:
    return f"{count:,} row{'s' if count != 1 else ''} ({_percent(share)})"


def _percent(share: float) -> str:
    """Return 12 %, 1.2 %, 0.05 %: two digits that matter."""
    percent = share * 100
    return f"{percent:.0f} %" if percent >= 10 or percent == 0 else f"{percent:.2g} %"


def _writer(profile: Numbers) -> Callable[[float], str]:
    return _moment if profile.moments else show


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")
