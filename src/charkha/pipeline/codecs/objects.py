"""Columns of Python objects as Arrow arrays with nothing lost, and back.

An object column can hold anything, Arrow's columns hold one type. So one type it has to be: what
Arrow keeps exactly is taken, what it may change is compared after a trip there and back, and the rest
is refused by name. What stands for a missing value (None, NaN, NA, NaT) is told in the note.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from charkha.errors import UserError
from charkha.pipeline.codecs.json import JsonCodec

Note = dict[str, Any]
_EXACT = {
    str: pa.string(),
    bytes: pa.binary(),
    bool: pa.bool_(),
    int: pa.int64(),
    float: pa.float64(),
    dt.date: pa.date32(),
}
_COMPARED = {dt.datetime, dt.time, dt.timedelta, Decimal, list, dict}
_MISSING = {"None": None, "NaN": np.nan, "NA": pd.NA, "NaT": pd.NaT}


def object_to_arrow(values: NDArray[np.object_], where: str) -> tuple[pa.Array, Note]:
    """Return the objects as an Arrow array, and the note by which `object_from_arrow` returns them.

    Raises:
        UserError: they are of several types, or of one that Arrow cannot keep; `where` names them.
    """
    missing = pd.isna(values)
    present = values[~missing]
    kinds = set(map(type, present))
    if len(kinds) > 1:
        raise _mixed(present, where)
    kind = kinds.pop() if kinds else type(None)
    note: Note = {"object": kind.__name__, **_missing(values, missing, where)}
    if kind is np.ndarray:
        return _arrays(values, present, missing, note, where), note
    if issubclass(kind, np.generic) and kind is np.dtype(kind).type and present.size:
        note |= {"object": type(present[0].item()).__name__, "numpy": kind.__name__}
        values = values.copy()
        values[~missing] = [value.item() for value in present]
        kind = type(present[0].item())
    if kind is type(None):
        return pa.nulls(len(values)), note
    if kind not in _EXACT and kind not in _COMPARED:
        raise _unknown(kind, where)
    try:
        array = pa.array(values, _EXACT.get(kind), mask=missing)
    except (pa.ArrowException, OverflowError, TypeError, ValueError) as e:
        raise _refused(kind, where, str(e).splitlines()[0]) from e
    if kind in _COMPARED and not _same(array.drop_null().to_pylist(), present.tolist()):
        raise _refused(kind, where, "Parquet would change them")
    return array, note


def object_from_arrow(column: pa.ChunkedArray, note: Note) -> NDArray[np.object_]:
    """Return the objects that `object_to_arrow` was given."""
    missing = column.is_null().to_numpy()
    values = np.empty(len(column), object)
    if note["object"] == "str" and "numpy" not in note:
        values[:] = column.to_numpy(zero_copy_only=False)
    else:
        for i, value in enumerate(_made(column, note)):
            values[i] = value  # one by one, for numpy would take lists of equal lengths for a table
    values[missing] = _MISSING[note["missing"]]
    for name, positions in note.get("others", {}).items():
        values[positions] = _MISSING[name]
    return values


def _made(column: pa.ChunkedArray, note: Note) -> list[object]:
    if note["object"] == "ndarray":
        dtype = np.dtype(note["dtype"])
        return [
            item.values.to_numpy(zero_copy_only=False).astype(dtype) if item.is_valid else None
            for item in column
        ]
    items: list[object] = column.to_pylist()
    if "numpy" in note:
        kind = getattr(np, note["numpy"])
        return [None if item is None else kind(item) for item in items]
    return items


def _arrays(
    values: NDArray[np.object_],
    present: NDArray[np.object_],
    missing: NDArray[np.bool_],
    note: Note,
    where: str,
) -> pa.Array:
    """Write vectors of one dtype as lists (an embedding in each row)."""
    dtypes = {(array.dtype, array.ndim) for array in present}
    ((dtype, dimensions), *others) = dtypes
    if others or dimensions != 1 or dtype.kind not in "biuf":
        raise _refused(np.ndarray, where, "they are no vectors of one type of numbers")
    note["dtype"] = dtype.str
    return pa.array(values, pa.list_(pa.from_numpy_dtype(dtype)), mask=missing, from_pandas=False)


def _missing(values: NDArray[np.object_], missing: NDArray[np.bool_], where: str) -> Note:
    """Note what the missing values are: the most frequent one, and where the others are."""
    found: dict[str, list[int]] = {}
    for position in np.flatnonzero(missing).tolist():
        found.setdefault(_name_of_missing(values[position], where), []).append(position)
    if not found:
        return {"missing": "None"}
    usual = max(sorted(found), key=lambda name: len(found[name]))
    others = {name: found[name] for name in sorted(found) if name != usual}
    return {"missing": usual, "others": others} if others else {"missing": usual}


def _name_of_missing(value: object, where: str) -> str:
    for name, missing in _MISSING.items():
        if value is missing or (name == "NaN" and isinstance(value, float)):
            return name
    raise _unknown(type(value), where)


def _same(back: list[object], values: list[object]) -> bool:
    """Whether both are equal in values and types, down to the elements of lists."""
    codec = JsonCodec()
    try:
        return codec.encode(back) == codec.encode(values)
    except UserError:
        return False


def _mixed(present: NDArray[np.object_], where: str) -> UserError:
    counted = Counter(type(value).__name__ for value in present)
    several = ", ".join(f"{n} {name}" for name, n in counted.most_common(3))
    return UserError(
        f"{where} holds values of several types ({several}), a column of Parquet holds one",
        fix="make it one type: .astype('string') for text, pd.to_numeric(…) for numbers",
    )


def _unknown(kind: type, where: str) -> UserError:
    return _refused(kind, where, "Parquet has no type for them")


def _refused(kind: type, where: str, why: str) -> UserError:
    fix = "make it text with .astype('string'), or a column of one of pandas' own types"
    if issubclass(kind, dt.datetime):
        fix = "make it a column of times with pd.to_datetime(…, utc=True)"
    return UserError(f"{where} holds objects of type {kind.__name__}: {why}", fix=fix)
