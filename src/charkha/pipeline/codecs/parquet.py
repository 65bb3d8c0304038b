"""Tables as Parquet: pandas DataFrame and Series, pyarrow Table, polars DataFrame.

The bytes follow from the table and the version of Arrow that writes them (which its footer names):
codec, level, sizes of groups and pages are fixed, chunks are joined first.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from charkha.errors import UserError
from charkha.pipeline.codecs.frames import INDEX, to_arrow, to_pandas
from charkha.pipeline.codecs.json import JsonCodec, is_json

_NOTE = b"charkha"  # key of our note in the schema's metadata
_WRITING = {
    "compression": "zstd",
    "compression_level": 3,
    "version": "2.6",
    "data_page_version": "1.0",
    "data_page_size": 1 << 20,  # bytes
    "dictionary_pagesize_limit": 1 << 20,  # bytes
    "row_group_size": 1 << 20,  # rows
    "use_dictionary": True,
    "write_statistics": True,
    "store_schema": True,
}
_SHOWN = 8  # differences


class ParquetCodec:
    """A Codec for tables. A frame comes back as a copy that may be written to; a Table shares."""

    name = "parquet"

    def encode(self, value: object) -> memoryview:
        kind = f"{type(value).__module__.partition('.')[0]}.{type(value).__name__}"
        if kind not in _TO_ARROW:
            raise UserError(
                f"a {kind} is a table of a kind of its own and would come back as another",
                fix="return pandas.DataFrame(value), or register a codec for it",
            )
        table, note = _TO_ARROW[kind](value)
        kept = {_NOTE: JsonCodec().encode({"kind": kind, **note})}
        metadata = dict(sorted({**(table.schema.metadata or {}), **kept}.items()))
        return _written(table.replace_schema_metadata(metadata))

    def decode(self, data: bytes | memoryview, wanted: type | None) -> object:
        table, note = _read(data)
        kind = note["kind"]
        if isinstance(wanted, type):
            asked = f"{wanted.__module__.partition('.')[0]}.{wanted.__name__}"
            kind = asked if asked in _FROM_ARROW else kind
        return _FROM_ARROW[kind](table, note)

    def difference(self, old: bytes | memoryview, new: bytes | memoryview) -> list[str]:
        (before, old_note), (after, new_note) = _read(old), _read(new)
        found = [f"{_named(c)} removed" for c in before.column_names if c not in after.column_names]
        found += [f"{_named(c)} added" for c in after.column_names if c not in before.column_names]
        found += [
            _named(c)
            for c in before.column_names
            if c in after.column_names and _differ(before[c], after[c])
        ]
        more = len(found) - _SHOWN
        found = found if more <= 0 else [*found[:_SHOWN], f"{more} columns more"]
        if rows := len(after) - len(before):
            found.append(f"{abs(rows)} rows {'more' if rows > 0 else 'fewer'}")
        if not found and before.column_names != after.column_names:
            found.append("order of the columns")
        if not found:
            found += [key for key in new_note if new_note[key] != old_note.get(key)]
        return found


def _frame_to_arrow(value: pd.DataFrame) -> tuple[pa.Table, dict[str, Any]]:
    return to_arrow(value)


def _series_to_arrow(value: pd.Series[Any]) -> tuple[pa.Table, dict[str, Any]]:
    if not is_json(value.name):
        raise UserError(
            f"the name of the series is a {type(value.name).__name__}",
            fix="give it a text: series.rename('…')",
        )
    table, note = to_arrow(value.to_frame("values"))
    return table, {**note, "name": value.name}


def _series_from_arrow(table: pa.Table, note: dict[str, Any]) -> pd.Series[Any]:
    frame = _frame_from_arrow(table, note)
    if len(frame.columns) != 1:
        raise UserError(
            f"a table of {len(frame.columns)} columns is no Series",
            fix="ask for a pandas.DataFrame in the step's signature",
        )
    series: pd.Series[Any] = frame.iloc[:, 0]
    return series.rename(note["name"]) if "name" in note else series


def _frame_from_arrow(table: pa.Table, note: dict[str, Any]) -> pd.DataFrame:
    return to_pandas(table, note) if "columns" in note else table.to_pandas()


def _table_to_arrow(value: pa.Table) -> tuple[pa.Table, dict[str, Any]]:
    """Return a Table with its schema, where Parquet alone would return another one."""
    if len(set(value.column_names)) < len(value.column_names):
        raise UserError(
            "a table has two columns of one name", fix="rename them with table.rename_columns(…)"
        )
    exact = value.schema.remove_metadata()
    try:
        back = pq.read_schema(pa.py_buffer(_written(exact.empty_table()))).remove_metadata()
        if back.serialize() == exact.serialize():  # == would overlook the names inside lists
            return value, {}
        back.empty_table().cast(exact)
    except pa.ArrowException as e:
        raise UserError(
            f"the table has a column that Parquet cannot keep: {str(e).splitlines()[0]}",
            fix="cast it to another type with table.cast(…)",
        ) from e
    return value, {"schema": exact.serialize().to_pybytes()}


def _table_from_arrow(table: pa.Table, note: dict[str, Any]) -> pa.Table:
    metadata = {k: v for k, v in (table.schema.metadata or {}).items() if k != _NOTE}
    if "schema" in note:
        table = table.cast(pa.ipc.read_schema(pa.py_buffer(note["schema"])))
    return table.replace_schema_metadata(metadata or None)


def _polars_to_arrow(value: Any) -> tuple[pa.Table, dict[str, Any]]:
    table, note = _table_to_arrow(value.to_arrow())
    if (back := _polars_from_arrow(table.slice(0, 0), {}).schema) != value.schema:
        lost = [name for name in back if back[name] != value.schema[name]]
        raise UserError(
            f"column {lost[0]!r} is of the type {value.schema[lost[0]]}, which Parquet cannot keep",
            fix="cast it to another type",
        )
    return table, note


def _polars_from_arrow(table: pa.Table, note: dict[str, Any]) -> Any:
    return import_module("polars").from_arrow(_table_from_arrow(table, note))


_TO_ARROW: dict[str, Any] = {
    "pandas.DataFrame": _frame_to_arrow,
    "pandas.Series": _series_to_arrow,
    "pyarrow.Table": _table_to_arrow,
    "polars.DataFrame": _polars_to_arrow,
}
_FROM_ARROW: dict[str, Any] = {
    "pandas.DataFrame": _frame_from_arrow,
    "pandas.Series": _series_from_arrow,
    "pyarrow.Table": _table_from_arrow,
    "polars.DataFrame": _polars_from_arrow,
}


def _written(table: pa.Table) -> memoryview:
    sink = pa.BufferOutputStream()
    pq.write_table(table.combine_chunks(), sink, **_WRITING)
    return memoryview(sink.getvalue())


def _read(data: bytes | memoryview) -> tuple[pa.Table, dict[str, Any]]:
    with pq.ParquetFile(pa.BufferReader(data)) as file:
        table = file.read()
    kept = (table.schema.metadata or {}).get(_NOTE)
    note: Any = JsonCodec().decode(kept, None) if kept else {"kind": "pyarrow.Table"}
    return table, note


def _named(column: str) -> str:
    return "the index" if column.startswith(INDEX.partition("{")[0]) else f"column {column}"


def _differ(old: pa.ChunkedArray, new: pa.ChunkedArray) -> bool:
    """Whether two columns differ in the rows that both have; a NaN is equal to a NaN."""
    rows = min(len(old), len(new))
    old, new = old.slice(0, rows), new.slice(0, rows)
    if old.type != new.type or old.equals(new):
        return bool(old.type != new.type)
    if pa.types.is_floating(old.type):
        return not np.array_equal(old.to_numpy(), new.to_numpy(), equal_nan=True)
    return not pa.types.is_nested(old.type) or repr(old.to_pylist()) != repr(new.to_pylist())


if TYPE_CHECKING:
    from charkha.pipeline.codecs.port import Codec

    _: Codec = ParquetCodec()
