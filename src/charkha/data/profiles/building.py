"""Profiles made of rows: the edges, the counts on both sides of them, the commonest labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa

from charkha.data.profiles.columns import (
    LabelsFound,
    NumbersFound,
    is_moment,
    is_number,
    labels_of,
    lengths_of,
    numbers_of,
    shapes_of,
    whole,
)
from charkha.data.profiles.profile import (
    GRID,
    KEPT,
    Categories,
    Column,
    Floats,
    Numbers,
    Profile,
    Texts,
)
from charkha.errors import DataError

_FEW_LABELS = 20  # up to so many, a text is a category, however few rows there are
_REPEATS = 5  # so often a category occurs on average; a text that does not is no category
_COVERED = 0.8  # part of the rows whose label is kept
_ENDS = 64  # rows of each end of a column that are edges
_DIGITS = 12  # of mean and deviation: the last ones depend on the order of a sum

Rows: TypeAlias = "pa.Array | pa.ChunkedArray | pd.Series"


def build_profile(columns: Mapping[str, Rows]) -> Profile:
    """Sum up columns, each by itself; the same rows give the same profile.

    Numbers and moments are sorted once. Booleans, pandas categories and texts that repeat are
    categories; texts that seldom repeat are texts.

    Args:
        columns: by name; they may differ in length.

    Raises:
        DataError: there is no row, or a column's values are lists, bytes or such.
    """
    return Profile(columns={name: profile_column(name, rows) for name, rows in columns.items()})


def profile_column(name: str, rows: Rows) -> Column:
    """Sum up one column.

    Raises:
        DataError: as `build_profile`.
    """
    labelled = isinstance(rows, pd.Series) and isinstance(rows.dtype, pd.CategoricalDtype)
    array = whole(_arrow(name, rows))
    if len(array) == 0:
        raise DataError(f"column {name!r} has no rows", fix="give it rows to be summed up")
    kind = array.type
    if pa.types.is_boolean(kind) or labelled:
        return _categories(array, labels_of(array))
    if is_number(kind) or is_moment(kind):
        return _numbers(numbers_of(array), len(array), moments=is_moment(kind))
    if pa.types.is_null(kind):
        return _numbers(numbers_of(array), len(array), moments=False)
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise DataError(
            f"column {name!r} holds {kind}, of which there is no profile",
            fix="make it numbers, text, booleans or dates",
        )
    found = labels_of(array)
    return _categories(array, found) if _repeat(found) else _texts(array, found.missing)


def _arrow(name: str, rows: Rows) -> pa.Array | pa.ChunkedArray:
    if not isinstance(rows, pd.Series):
        return rows
    try:
        return pa.Array.from_pandas(rows)
    except pa.ArrowException as e:
        raise DataError(
            f"column {name!r} holds values of several types: {e}",
            fix="make it numbers, text, booleans or dates",
        ) from e


def _numbers(found: NumbersFound, rows: int, *, moments: bool) -> Numbers:
    values = np.sort(found.values)
    edges = _edges(values)
    return Numbers(
        rows=rows,
        missing=rows - len(values),
        edges=edges,
        below=np.searchsorted(values, edges, "left").astype(np.int64),
        upto=np.searchsorted(values, edges, "right").astype(np.int64),
        mean=_short(values.mean()) if len(values) else 0.0,
        sd=_short(values.std()) if len(values) else 0.0,
        moments=moments,
    )


def _edges(ordered: Floats) -> Floats:
    """Return quantiles on a grid, and ever rarer values towards both ends.

    The last rows of each end are edges one by one, those before them in steps that grow by a tenth.
    Moved mass is measured by its way (Wasserstein), and the way through a tail is long.
    """
    count = len(ordered)
    if count <= GRID:
        return np.unique(ordered)
    last = count - 1
    inner = np.round(np.arange(1, GRID) * (count / GRID)).astype(np.int64) - 1
    steps = int(np.log(max(count / GRID / _ENDS, 1)) / np.log(1.1)) + 1
    tail = np.append(np.arange(_ENDS), (_ENDS * 1.1 ** np.arange(steps)).astype(np.int64))
    at = np.unique(np.concatenate([tail, inner, last - tail]))
    return np.unique(ordered[at])


def _repeat(found: LabelsFound) -> bool:
    """Whether these texts are categories."""
    distinct, known = len(found.labels), int(found.counts.sum())
    if distinct <= _FEW_LABELS:
        return True
    kept = int(np.sort(found.counts)[-KEPT:].sum())
    return kept >= _COVERED * known and distinct * _REPEATS <= known


def _categories(array: pa.Array, found: LabelsFound) -> Categories:
    """Count the commonest labels.

    Where there are more than are kept, every other row says which ones are, and the rows between
    count them. Counted in the rows that chose them they would look commoner than they are, and
    later rows would seem to have lost them.
    """
    kept = _commonest(found)[:KEPT]
    counted = found
    if len(found.labels) > KEPT:
        at = np.arange(len(array))
        kept = _commonest(labels_of(array.take(at[::2])))[:KEPT]
        counted = labels_of(array.take(at[1::2]))
    counts = dict(_commonest(counted))
    own = np.array([counts.get(label, 0) for label, _ in kept], dtype=np.int64)
    return Categories(
        rows=len(array),
        missing=found.missing,
        labels=tuple(label for label, _ in kept),
        counts=own,
        other=int(counted.counts.sum() - own.sum()),
    )


def _commonest(found: LabelsFound) -> list[tuple[str, int]]:
    """Return labels with their counts, the commonest first."""
    counts: dict[str, int] = {}
    for label, count in zip(found.labels, found.counts.tolist(), strict=True):
        counts[label] = counts.get(label, 0) + count
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))


def _texts(array: pa.Array, missing: int) -> Texts:
    lengths, shapes = lengths_of(array), shapes_of(array)
    return Texts(
        rows=len(array),
        missing=missing,
        lengths=_numbers(numbers_of(lengths), len(array), moments=False),
        shapes=_categories(shapes, labels_of(shapes)),
    )


def _short(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
