"""The values of an Arrow column as what a profile counts: numbers, labels, lengths and shapes."""

from __future__ import annotations

import json
import math
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as compute

from charkha.data.profiles.profile import Counts, Floats

_MOST_SHAPED = 20_000  # texts of which shapes are taken, spread evenly over the column
_RUNS = 16  # characters of a shape
_CLASSES = (  # in this order: what was replaced is not found again by the next
    (r"\p{Nd}+", "9"),
    (r"\s+", "_"),
    (r"[^\p{L}\p{M}9_]+", "-"),
    (r"\p{Lu}+", "A"),
    (r"[^A9_\-]+", "a"),
)


class NumbersFound(NamedTuple):
    """Finite values, and how many others there are."""

    values: Floats  # (known,), in the order of the rows
    missing: int
    wrong: int  # no numbers


class LabelsFound(NamedTuple):
    """Distinct labels with their counts, in the order in which they come first."""

    labels: list[str]
    counts: Counts
    missing: int


def is_number(kind: pa.DataType) -> bool:
    """Whether the values are numbers."""
    types = pa.types
    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind))


def is_moment(kind: pa.DataType) -> bool:
    """Whether the values are dates or moments."""
    return bool(pa.types.is_timestamp(kind) or pa.types.is_date(kind))


def whole(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Return a column in one piece, a dictionary as its values."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(array, pa.ChunkedArray):  # of no chunks, in older versions of pyarrow
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.nulls(0, array.type)
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def numbers_of(array: pa.Array) -> NumbersFound:
    """Return a column's numbers as float64; moments as seconds since 1970, UTC."""
    if is_moment(array.type):
        array = array.cast(pa.timestamp("us", _zone(array.type))).cast(pa.int64())
        scale = 1e-6
    else:
        scale = 1.0
        if pa.types.is_boolean(array.type):
            array = array.cast(pa.int8())
        elif not is_number(array.type):
            return _read_texts(array)
    if pa.types.is_decimal(array.type):
        array = array.cast(pa.float64())
    present = array.drop_null() if array.null_count else array
    values = present.to_numpy(zero_copy_only=False).astype(np.float64, copy=False)
    if scale != 1.0:
        values = values * scale
    if not np.isfinite(values.sum() if len(values) else 0.0):  # one pass in place of two
        values = values[np.isfinite(values)]
    return NumbersFound(values, len(array) - len(values), 0)


def labels_of(array: pa.Array) -> LabelsFound:
    """Return a column's distinct labels as text: true and 3 as JSON writes them."""
    if pa.types.is_floating(array.type):
        array = compute.if_else(compute.is_nan(array), pa.scalar(None, array.type), array)
    counted = compute.value_counts(array)
    values, counts = counted.field("values"), counted.field("counts").to_numpy()
    if not values.null_count:
        return LabelsFound([label_of(v) for v in values.to_pylist()], counts, 0)
    at = int(np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False))[0])
    labels = [label_of(v) for v in values.drop_null().to_pylist()]
    return LabelsFound(labels, np.delete(counts, at), int(counts[at]))


def label_of(value: object) -> str:
    """Return a label as text; 3.0 is 3, as a JSON number that was read as a float."""
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value, default=str)


def lengths_of(array: pa.Array) -> pa.Array:
    """Return how many characters each text has."""
    return compute.utf8_length(_texts(array))


def shapes_of(array: pa.Array) -> pa.Array:
    """Return the shapes of at most 20,000 texts, spread evenly; see `Texts`."""
    known = _texts(array).drop_null()
    if len(known) > _MOST_SHAPED:
        known = known.take(pa.array(np.linspace(0, len(known) - 1, _MOST_SHAPED).astype(np.int64)))
    shapes = compute.utf8_slice_codeunits(known, 0, 200)  # no essay is read to its end
    for pattern, replacement in _CLASSES:
        shapes = compute.replace_substring_regex(shapes, pattern=pattern, replacement=replacement)
    return compute.utf8_slice_codeunits(shapes, 0, _RUNS)


def _texts(array: pa.Array) -> pa.Array:
    return array if pa.types.is_string(array.type) else array.cast(pa.string())


def _zone(kind: pa.DataType) -> str | None:
    return kind.tz if pa.types.is_timestamp(kind) else None


def _read_texts(array: pa.Array) -> NumbersFound:
    """Return the numbers in a column that is text because one of its values was no number."""
    if pa.types.is_null(array.type):
        return NumbersFound(np.empty(0), len(array), 0)
    values, missing, wrong = [], 0, 0
    for text in array.to_pylist():
        number = _number(text)
        if number is None:
            wrong += 1
        elif math.isfinite(number):
            values.append(number)
        else:
            missing += 1
    return NumbersFound(np.array(values, np.float64), missing, wrong)


def _number(value: object) -> float | None:
    """Return a value as a number, NaN where it is missing, None where it is something else."""
    if value is None:
        return math.nan
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
