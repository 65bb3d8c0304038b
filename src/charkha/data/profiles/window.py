"""A window of rows summed up in one pass, at the edges and labels of a profile."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from charkha.data.profiles.columns import (
    label_of,
    labels_of,
    lengths_of,
    numbers_of,
    shapes_of,
    whole,
)
from charkha.data.profiles.profile import (
    Categories,
    CategoriesSeen,
    Column,
    ColumnSeen,
    Counts,
    Floats,
    Numbers,
    NumbersSeen,
    Profile,
    Texts,
    TextsSeen,
)

_QUARTILES = np.array([0.25, 0.5, 0.75])


def summarise(
    window: pa.Table, profile: Profile, names: Iterable[str] | None = None
) -> dict[str, ColumnSeen]:
    """Return what a window holds, for each column of the profile that it has.

    Args:
        window: rows; columns that the profile does not know are not looked at.
        profile: whose edges and labels are counted at.
        names: these columns only.
    """
    wanted = profile.columns if names is None else names
    present = [n for n in wanted if n in profile.columns and n in window.column_names]
    return {n: see_column(window.column(n), profile.columns[n]) for n in present}


def see_column(column: pa.Array | pa.ChunkedArray, profile: Column) -> ColumnSeen:
    """Return what one column of a window holds."""
    array = whole(column)
    if isinstance(profile, Numbers):
        return _numbers(array, profile)
    if isinstance(profile, Categories):
        return _categories(array, profile)
    return _texts(array, profile)


def _numbers(array: pa.Array, profile: Numbers) -> NumbersSeen:
    found = numbers_of(array)
    values = np.sort(found.values)
    edges = profile.edges
    below = np.searchsorted(values, edges, "left").astype(np.int64)
    upto = np.searchsorted(values, edges, "right").astype(np.int64)
    inside = np.zeros(max(len(edges) - 1, 0))
    beneath = beyond = 0.0
    if len(values) and len(edges):
        low, high = values[: below[0]], values[upto[-1] :]
        sums = np.append(0.0, np.cumsum(values))
        between = below[1:] - upto[:-1]
        inside = np.maximum(between * edges[1:] - (sums[below[1:]] - sums[upto[:-1]]), 0.0)
        beneath = float(len(low) * edges[0] - low.sum())
        beyond = float(high.sum() - len(high) * edges[-1])
    return NumbersSeen(
        rows=len(array),
        missing=found.missing,
        wrong=found.wrong,
        below=below,
        upto=upto,
        inside=inside,
        beneath=beneath,
        beyond=beyond,
        quartiles=_quartiles(values),
    )


def _quartiles(ordered: Floats) -> tuple[float, float, float] | None:
    """Return the three quartiles, defined as `Numbers.quantile` does."""
    if not len(ordered):
        return None
    at = np.ceil(_QUARTILES * len(ordered) - 1e-9).astype(np.int64) - 1
    low, middle, high = ordered[np.maximum(at, 0)].tolist()
    return low, middle, high


def _categories(array: pa.Array, profile: Categories) -> CategoriesSeen:
    found = labels_of(array)
    at = {label: index for index, label in enumerate(profile.labels)}
    counts: Counts = np.zeros(len(profile.labels), dtype=np.int64)
    unknown: dict[str, int] = {}
    for label, count in zip(found.labels, found.counts.tolist(), strict=True):
        index = at.get(label)
        if index is None:
            unknown[label] = unknown.get(label, 0) + count
        else:
            counts[index] += count
    return CategoriesSeen(
        rows=len(array),
        missing=found.missing,
        counts=counts,
        unknown=dict(sorted(unknown.items(), key=lambda pair: (-pair[1], pair[0]))),
    )


def _texts(array: pa.Array, profile: Texts) -> TextsSeen:
    if not (pa.types.is_string(array.type) or pa.types.is_large_string(array.type)):
        array = pa.array(
            [None if v is None else label_of(v) for v in array.to_pylist()], pa.string()
        )
    shapes = shapes_of(array)
    return TextsSeen(
        rows=len(array),
        missing=array.null_count,
        lengths=_numbers(lengths_of(array), profile.lengths),
        shapes=_categories(shapes, profile.shapes),
    )
