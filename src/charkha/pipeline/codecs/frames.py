"""pandas tables as Arrow tables with nothing lost, and back.

Arrow alone loses what pandas has beside the values: an object column of booleans comes back as bool,
NaN as None, seconds as milliseconds; unused categories and an index's frequency are gone. So each
column has a note by which it becomes again what it was, and an index is written as ordinary columns
behind the others. pandas' own note in the schema is left out: it holds the versions of pandas and
Arrow, so an upgrade would give the same table other bytes.
"""

from __future__ import annotations

import datetime as dt
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa

from charkha.errors import UserError
from charkha.pipeline.codecs.json import is_json
from charkha.pipeline.codecs.objects import object_from_arrow, object_to_arrow

Note = dict[str, Any]
INDEX = "__index_level_{}__"  # the name that pandas itself gives to such a column


def to_arrow(frame: pd.DataFrame) -> tuple[pa.Table, Note]:
    """Return the columns and the index levels of `frame`, and what `to_pandas` needs besides.

    Raises:
        UserError: a column, the index or the labels have no faithful form; it is named.
    """
    columns = [
        _array(frame.iloc[:, i].array, f"column {label!r}") for i, label in enumerate(frame.columns)
    ]
    levels, index = _index_note(frame.index)
    names = [*_names(frame.columns), *(INDEX.format(i) for i in range(len(levels)))]
    arrays, notes = zip(*columns, *levels, strict=True) if names else ((), ())
    note = {"columns": list(notes), "index": index, "labels": _label_note(frame.columns)}
    if frame.attrs:
        note["attrs"] = _kept(
            dict(frame.attrs), "the table's attrs", "clear them: table.attrs = {}"
        )
    return pa.table(list(arrays), names=names), note


def to_pandas(table: pa.Table, note: Note) -> pd.DataFrame:
    """Return the frame that `to_arrow` was given, as a copy that may be written to."""
    arrays = [
        _values(column, kept) for column, kept in zip(table.columns, note["columns"], strict=True)
    ]
    index = note["index"]
    width = len(arrays) - (0 if "range" in index else len(index["names"]))
    frame = pd.DataFrame(
        dict(enumerate(arrays[:width])), index=_index(arrays[width:], index), copy=True
    )
    frame.columns = _labels(note["labels"], table.column_names[:width])
    frame.attrs = note.get("attrs", {})
    return frame


def _array(values: Any, where: str) -> tuple[pa.Array, Note]:
    """Return a pandas array as Arrow's, and the note by which `_values` returns it."""
    if type(values) is pd.arrays.NumpyExtensionArray:
        values = values.to_numpy()  # the array itself; its dtype in pandas is a wrapper
    dtype = values.dtype
    if isinstance(dtype, np.dtype) and dtype.kind == "O":
        return object_to_arrow(values, where)
    try:
        if isinstance(dtype, pd.CategoricalDtype):
            return _categorical(values)
        if isinstance(dtype, pd.SparseDtype):
            raise TypeError("Parquet has no sparse columns")
        if isinstance(dtype, np.dtype):
            values = np.asarray(values)
        return pa.array(values, from_pandas=True), {"dtype": _dtype_note(dtype)}
    except (pa.ArrowException, TypeError, ValueError) as e:
        raise UserError(
            f"{where} is of type {dtype}, which Parquet cannot keep: {str(e).splitlines()[0]}",
            fix="convert it with .astype(…), or drop it",
        ) from e


def _values(column: pa.ChunkedArray, note: Note) -> Any:
    """Return the numpy or pandas array that `_array` was given."""
    if "object" in note:
        return object_from_arrow(column, note)
    if "categories" in note:
        categories = _unpacked(note["categories"])
        codes = np.full(len(column), -1)
        present = _values(column.drop_null(), note["values"])
        codes[~column.is_null().to_numpy()] = categories.get_indexer(pd.Index(present))
        return pd.Categorical.from_codes(codes, categories=categories, ordered=note["ordered"])
    dtype = _dtype(note["dtype"])
    if isinstance(dtype, np.dtype):
        return column.to_numpy(zero_copy_only=False).astype(dtype, copy=False)
    return dtype.__from_arrow__(column)


def _categorical(values: pd.Categorical) -> tuple[pa.Array, Note]:
    """Write the values and not their codes, so that any reader of Parquet can use the column."""
    categories, note = _array(values.categories.array, "its categories")
    codes = pa.array(values.codes, mask=values.codes < 0)
    return categories.take(codes), {
        "categories": _packed(values.categories),
        "ordered": bool(values.ordered),
        "values": note,
    }


def _index_note(index: pd.Index[Any]) -> tuple[list[tuple[pa.Array, Note]], Note]:
    """Return the levels of an index as Arrow's arrays with their notes, and what else it has."""
    note: Note = {"names": _kept(list(index.names), "a name of the index", "give it another one")}
    if isinstance(index, pd.RangeIndex):
        return [], note | {"range": [index.start, index.stop, index.step]}
    if isinstance(index, pd.MultiIndex):
        levels = [index.get_level_values(i) for i in range(index.nlevels)]
        note["multiple"] = True
    else:
        levels = [index]
    if isinstance(index, pd.DatetimeIndex | pd.TimedeltaIndex) and index.freq is not None:
        note["frequency"] = index.freqstr
    where = "the index" if len(levels) == 1 else "level {} of the index"
    return [_array(level.array, where.format(i)) for i, level in enumerate(levels)], note


def _index(arrays: list[Any], note: Note) -> pd.Index[Any]:
    if "range" in note:
        start, stop, step = note["range"]
        return pd.RangeIndex(start, stop, step, name=note["names"][0])
    if "multiple" in note:
        return pd.MultiIndex.from_arrays(arrays, names=note["names"])
    index: pd.Index[Any] = pd.Index(arrays[0], dtype=arrays[0].dtype, name=note["names"][0])
    if "frequency" in note:
        index.freq = note["frequency"]  # type: ignore[attr-defined]  # it is an index of times
    return index


def _label_note(labels: pd.Index[Any]) -> Note:
    """Return how the columns are called, where the names in the file do not say it."""
    plain = labels.dtype == object and all(type(label) is str for label in labels)
    if plain and labels.is_unique and not isinstance(labels, pd.MultiIndex):
        return {"names": _kept(list(labels.names), "the name of the columns", "give another one")}
    return {"packed": _packed(labels)}


def _labels(note: Note, names: list[str]) -> pd.Index[Any]:
    if "packed" in note:
        return _unpacked(note["packed"])
    return pd.Index(names, dtype=object, name=note["names"][0])


def _names(labels: pd.Index[Any]) -> list[str]:
    """Return different texts for the labels, the labels themselves where they are that."""
    names: list[str] = []
    taken: set[str] = set()
    for label in labels:
        name, n = str(label), 1
        while name in taken:
            name, n = f"{label}.{n}", n + 1
        taken.add(name)
        names.append(name)
    return names


def _packed(index: pd.Index[Any]) -> Note:
    """Return a small index (labels, categories) as JSON and bytes of Arrow's stream format."""
    levels, note = _index_note(index)
    if not levels:
        return note
    table = pa.table([array for array, _ in levels], names=[str(i) for i in range(len(levels))])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return note | {"levels": [kept for _, kept in levels], "arrow": sink.getvalue().to_pybytes()}


def _unpacked(note: Note) -> pd.Index[Any]:
    if "range" in note:
        return _index([], note)
    with pa.ipc.open_stream(note["arrow"]) as stream:
        columns = stream.read_all().columns
    return _index([_values(*pair) for pair in zip(columns, note["levels"], strict=True)], note)


def _dtype_note(dtype: Any) -> object:
    if isinstance(dtype, np.dtype):
        return dtype.str
    if isinstance(dtype, pd.StringDtype):  # its name does not say where the text lies
        return {"string": dtype.storage, "nan": dtype.na_value is not pd.NA}
    if isinstance(dtype, pd.DatetimeTZDtype):
        return {"unit": dtype.unit, "zone": _zone_note(dtype.tz)}
    name = str(dtype)
    if pd.api.types.pandas_dtype(name) != dtype:
        raise TypeError(f"the name {name} does not tell it")
    return name


def _dtype(note: Any) -> Any:
    if isinstance(note, str):
        return np.dtype(note) if note[0] in "<>|=" else pd.api.types.pandas_dtype(note)
    if "string" in note:
        return pd.StringDtype(note["string"], na_value=np.nan if note["nan"] else pd.NA)
    return pd.DatetimeTZDtype(note["unit"], _zone(note["zone"]))


def _zone_note(zone: dt.tzinfo) -> object:
    if isinstance(zone, ZoneInfo) and zone.key:
        return {"zoneinfo": zone.key}
    if isinstance(zone, dt.timezone):
        return {"seconds": zone.utcoffset(None).total_seconds()}
    if named := getattr(zone, "zone", None):  # of pytz, which pandas 2 makes of a name
        return {"pytz": named}
    raise TypeError(f"the zone {zone!r} has no name that another machine knows")


def _zone(note: dict[str, Any]) -> Any:
    if "zoneinfo" in note:
        return ZoneInfo(note["zoneinfo"])
    if "seconds" in note:
        return dt.timezone(dt.timedelta(seconds=note["seconds"]))
    return note["pytz"]


def _kept(value: Any, what: str, fix: str) -> Any:
    if not is_json(value):
        raise UserError(f"{what} is a value that JSON cannot keep: {value!r}", fix=fix)
    return value
