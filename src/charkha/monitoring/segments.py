"""The rows for which a model is worst, found among all values of all inputs and pairs of them.

Slices are made without looking at errors: each common value of a category, each quarter of a column of
numbers, and pairs of those. Their errors are compared with those of all other rows (Welch 1947). As
thousands are looked at, the largest difference is held against the largest that chance finds, in the same
slices with the errors dealt anew to the rows (Westfall & Young 1993, the maximum of a permutation test).
So intervals hold for all of them together, too. Slices are those of Slice Finder (Chung et al. 2019).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as compute
from numpy.typing import NDArray

from charkha.data.profiles.columns import is_moment, is_number, label_of, whole
from charkha.models.evidence import Scored
from charkha.models.metrics import Task
from charkha.models.predictions import Floats
from charkha.models.profiled import INPUT
from charkha.models.verdict import show
from charkha.monitoring.answers import Labelled
from charkha.monitoring.performance import Segment
from charkha.monitoring.stumps import numbers_or_moments
from charkha.project import MonitoringSettings

Mask = NDArray[np.bool_]

FOUND = 5  # segments that are told
_LEAST_ROWS, _LEAST_PART = 30, 0.02  # of a slice
_LABELS, _QUARTERS, _FEW = 20, 4, 6  # of a column; so few numbers are taken as labels
_MOST_ROWS, _MOST_SLICES = 10_000, 1_000
_ALIKE = 0.95  # of the smaller slice: a pair that is as large as one of its halves is that half
_DRAWS, _AT_ONCE, _HOPELESS = 1_000, 100, 20  # so many better ones by chance among the first


@dataclass(frozen=True, kw_only=True)
class Slice:
    """Rows that share something; `where` says it of a column at a time."""

    where: tuple[tuple[str, str, Rule], ...]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What a column's values have in common."""

    label: str | None = None  # equal to it
    low: float = -np.inf  # at least
    high: float = np.inf  # less than
    missing: bool = False

    def matches(self, column: pa.ChunkedArray) -> Mask:
        """Return which rows it is true of."""
        array = whole(column)
        if self.missing:
            return _missing(array)
        if self.label is not None:
            names, places = _labels(array)
            return np.asarray(names == self.label, dtype=bool)[places]
        values = numbers_or_moments(column)
        with np.errstate(invalid="ignore"):
            found: Mask = (values >= self.low) & (values < self.high)
        return found


def losses_of(scored: Scored, task: Task) -> tuple[str, Floats]:
    """Return what a row costs, and its name: the absolute error, or 1 where a label is wrong."""
    if task == "regression":
        away = np.asarray(scored.truth, float) - np.asarray(scored.predicted.values, float)
        return "mae", np.abs(away)
    return "error rate", (scored.truth != scored.predicted.values).astype(np.float64)


def worst_segments(
    labelled: Labelled,
    inputs: Sequence[str],
    held_out: Labelled | None,
    task: Task,
    settings: MonitoringSettings,
) -> tuple[Segment, ...]:
    """Return at most five segments, worst first: those whose difference is surely the largest.

    Args:
        labelled: rows whose truth is known; the newest 10,000 are looked at.
        inputs: columns to look at.
        held_out: rows that say how the same segment did before the model was let out.
        task: of the model.
        settings: how sure, and what matters.
    """
    count = len(labelled)
    if count < max(settings.least_labels, 2 * _LEAST_ROWS) or not inputs:
        return ()
    start = max(count - _MOST_ROWS, 0)
    rows = labelled.rows.slice(start)
    name, losses = losses_of(labelled.scored, task)
    losses = losses[start:]
    if losses.std() <= 1e-12 * max(abs(losses.mean()), 1e-300):
        return ()
    slices, members = _slices(rows, inputs)
    if not slices:
        return ()
    found = _tested(members, losses, settings.false_alarms)
    if found is None:
        return ()
    floor = 0.01 if task == "classification" else 0.0
    matters = found.gap >= np.maximum(settings.smallest_loss * found.rest, floor)
    chosen = np.flatnonzero((found.p <= settings.false_alarms) & matters & (found.gap > 0))
    order = chosen[np.argsort(-(found.gap - found.reach)[chosen], kind="stable")]
    kept = _without_echoes(order.tolist(), slices, members, found)
    return tuple(
        _segment(slices[at], at, found, name, len(losses), held_out, task) for at in kept[:FOUND]
    )


@dataclass(frozen=True, kw_only=True)
class _Found:
    """What was measured of each slice; arrays of (slices,)."""

    sizes: Floats
    inside: Floats
    rest: Floats
    gap: Floats
    reach: Floats  # half of an interval that holds for all slices together, at 95 %
    p: Floats


def _tested(members: NDArray[np.float32], losses: Floats, alpha: float) -> _Found | None:
    """Return the differences with their chances; None where chance finds as much."""
    scaled = ((losses - losses.mean()) / losses.std()).astype(np.float32)
    both = np.stack([scaled, scaled**2])
    sizes = members.sum(axis=0, dtype=np.float64)
    z, gap, error = _welch(both @ members, both.sum(axis=1, dtype=np.float64), sizes, len(losses))
    rng = np.random.default_rng(0)
    draws = max(_DRAWS, min(int(10 / alpha), 5_000))
    largest: list[float] = []
    while len(largest) < draws:
        dealt = rng.permuted(np.tile(scaled, (_AT_ONCE, 1)), axis=1)
        sums = np.stack([dealt @ members, dealt**2 @ members], axis=1)  # (draws, 2, slices)
        totals = both.sum(axis=1, dtype=np.float64)
        largest += [float(_welch(each, totals, sizes, len(losses))[0].max()) for each in sums]
        if sum(high >= z.max() for high in largest) >= _HOPELESS:
            return None
    ordered = np.sort(largest)
    better = len(ordered) - np.searchsorted(ordered, z - 1e-9, side="left")
    scale, mean = float(losses.std()), float(losses.mean())
    inside = losses @ members / sizes
    rest = (losses.sum() - losses @ members) / (len(losses) - sizes)
    return _Found(
        sizes=sizes,
        inside=np.maximum(inside, 0.0) if mean >= 0 else inside,
        rest=rest,
        gap=gap * scale,
        reach=error * scale * float(np.quantile(ordered, 0.95)),
        p=(better + 1) / (len(ordered) + 1),
    )


def _welch(sums: Floats, totals: Floats, sizes: Floats, rows: int) -> tuple[Floats, Floats, Floats]:
    """Return z, the difference and its standard error, of sums and sums of squares (2, slices)."""
    others = rows - sizes
    inside, outside = sums / sizes, (totals[:, None] - sums) / others
    error = np.zeros(len(sizes))
    for means, count in ((inside, sizes), (outside, others)):
        error = error + np.maximum(means[1] - means[0] ** 2, 1e-9) / (count - 1)
    error = np.sqrt(error)
    gap = inside[0] - outside[0]
    return gap / error, gap, error


def _slices(rows: pa.Table, inputs: Sequence[str]) -> tuple[list[Slice], NDArray[np.float32]]:
    """Return slices, single ones first, and which rows are in them: (rows, slices)."""
    count = rows.num_rows
    least = max(_LEAST_ROWS, int(_LEAST_PART * count))
    singles, masks = [], []
    for name in inputs:
        for text, rule in _rules(rows[name], least):
            mask = rule.matches(rows[name])
            if least <= mask.sum() <= count - least:
                singles.append(Slice(where=((name.removeprefix(INPUT), text, rule),)))
                masks.append(mask)
    if not singles:
        return [], np.empty((count, 0), np.float32)
    members = np.stack(masks, axis=1).astype(np.float32)
    pairs = _pairs(singles, members, least)
    joined = [Slice(where=(*singles[one].where, *singles[other].where)) for one, other in pairs]
    both = [members[:, one] * members[:, other] for one, other in pairs]
    return [*singles, *joined], np.column_stack([members, *both]).astype(np.float32)


def _pairs(
    singles: Sequence[Slice], members: NDArray[np.float32], least: int
) -> list[tuple[int, int]]:
    """Return the largest pairs of slices of two columns, as many as may be looked at."""
    together = members.T @ members
    sizes = np.diag(together)
    column = np.array([s.where[0][0] for s in singles])
    usable = (
        np.triu(column[:, None] != column[None, :], 1)
        & (together >= least)
        & (together <= _ALIKE * np.minimum(sizes[:, None], sizes[None, :]))
    )
    ones, others = np.nonzero(usable)
    order = np.argsort(-together[ones, others], kind="stable")[
        : max(_MOST_SLICES - len(singles), 0)
    ]
    return list(zip(ones[order].tolist(), others[order].tolist(), strict=True))


def _rules(column: pa.ChunkedArray, least: int) -> Iterator[tuple[str, Rule]]:
    """Yield the ways in which a column is cut, in words too."""
    array = whole(column)
    if (lacking := _missing(array)).sum() >= least:
        yield "missing", Rule(missing=True)
    moments = is_moment(array.type)
    if moments or is_number(array.type):
        values = numbers_or_moments(column)[~lacking]
        distinct = np.unique(values)
        if moments or len(distinct) > _FEW:
            yield from _ranges(values, moments=moments)
            return
    labels, places = _labels(array)
    names, counts = np.unique(labels[places[~lacking]].astype(str), return_counts=True)
    common = np.lexsort((names, -counts))[:_LABELS]
    for at in common.tolist():
        if counts[at] >= least:
            yield f"= {names[at]}", Rule(label=str(names[at]))


def _labels(array: pa.Array) -> tuple[NDArray[np.object_], NDArray[np.int64]]:
    """Return the distinct values in words, None of null, and which of them each row has."""
    encoded = array if pa.types.is_dictionary(array.type) else array.dictionary_encode("encode")
    words = [None if v is None else label_of(v) for v in encoded.dictionary.to_pylist()]
    places = compute.fill_null(encoded.indices, len(words)).to_numpy(zero_copy_only=False)
    return np.array([*words, None], dtype=object), places.astype(np.int64)


def _ranges(values: Floats, *, moments: bool) -> Iterator[tuple[str, Rule]]:
    edges = np.unique(np.quantile(values, np.linspace(0, 1, _QUARTERS + 1)[1:-1]))
    ends = [-np.inf, *edges.tolist(), np.inf]
    write = _moment if moments else _bound
    for low, high in zip(ends[:-1], ends[1:], strict=True):
        if low == -np.inf:
            text = f"below {write(high)}"
        elif high == np.inf:
            text = f"{write(low)} and above"
        else:
            text = f"{write(low)} to {write(high)}"
        yield text, Rule(low=low, high=high)


def _missing(array: pa.Array) -> Mask:
    if is_number(array.type):
        return ~np.isfinite(numbers_or_moments(pa.chunked_array([array])))
    found: Mask = array.is_null().to_numpy(zero_copy_only=False).astype(bool)
    return found


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")


def _bound(value: float) -> str:
    return show(value) if abs(value) >= 10_000 else f"{value:.4g}"  # 1976 may be a year


def _without_echoes(
    order: Sequence[int],
    slices: Sequence[Slice],
    members: NDArray[np.float32],
    found: _Found,
) -> list[int]:
    """Leave out slices that mostly repeat a worse one."""
    kept: list[int] = []
    for at in order:
        rows = members[:, at]
        shared = [float(rows @ members[:, other]) for other in kept]
        sizes = [min(found.sizes[at], found.sizes[other]) for other in kept]
        if all(both < 0.5 * size for both, size in zip(shared, sizes, strict=True)):
            kept.append(at)
    return kept


def _segment(
    chosen: Slice,
    at: int,
    found: _Found,
    name: str,
    rows: int,
    held_out: Labelled | None,
    task: Task,
) -> Segment:
    size = int(found.sizes[at])
    return Segment(
        where=tuple((column, text) for column, text, _ in chosen.where),
        rows=size,
        part=size / rows,
        metric=name,
        value=float(found.inside[at]),
        rest=float(found.rest[at]),
        held_out=_then(chosen, held_out, task),
        worse_by=float(found.gap[at]),
        low=float(found.gap[at] - found.reach[at]),
        high=float(found.gap[at] + found.reach[at]),
        p=float(found.p[at]),
    )


def _then(chosen: Slice, held_out: Labelled | None, task: Task) -> float | None:
    """Return what a row of the segment cost among the held-out rows."""
    if held_out is None:
        return None
    inside = np.ones(len(held_out), dtype=bool)
    for column, _, rule in chosen.where:
        inside &= rule.matches(held_out.rows[f"{INPUT}{column}"])
    if inside.sum() < _LEAST_ROWS:
        return None
    return float(losses_of(held_out.scored, task)[1][inside].mean())
