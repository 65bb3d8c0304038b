"""Arrow streams and Parquet in requests, through pyarrow; imported when the first of them comes.

What is read is sized first (arrow_sizes.py, parquet_sizes.py) and validated, so that a body cannot
become more than its limit, and no value is looked at that lies outside of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from charkha.serving.dialects.arrow_sizes import message_size
from charkha.serving.dialects.named import NamedDialect
from charkha.serving.dialects.parquet_sizes import file_sizes
from charkha.serving.dialects.placed import Placed
from charkha.serving.dialects.port import Headers, Reading, Said, Sent
from charkha.serving.dialects.tables import (
    MOST_BYTES,
    Unsafe,
    answer_columns,
    kind_of,
    malformed,
    too_large,
    too_many,
    wants_json,
)
from charkha.serving.schema import misfit, pointer

if TYPE_CHECKING:
    from charkha.serving.loading import ServedModel
    from charkha.serving.predictors.port import Row
    from charkha.serving.schema import RowSchema

_TYPES = {str: pa.string(), float: pa.float64(), int: pa.int64(), bool: pa.bool_()}
_MOST_MESSAGES = 20_000  # each costs 20 µs
_Read = Callable[[bytes, "RowSchema", int], "list[Row]"]
_Write = Callable[[pa.Table], bytes]


class TableDialect:
    """The Dialect of one kind of table on `/predict` for one version."""

    content_type: str
    read_rows: _Read
    write_table: _Write

    def __init__(self, model: ServedModel, variant: str, most_rows: int) -> None:
        self._named = NamedDialect(model, variant)
        self._kind = kind_of(model.described["classes"])
        self._schema, self._classes, self._most_rows = model.schema, model.classes, most_rows
        self._about = {"model": model.name, "version": str(model.version), "variant": variant}
        self._headers: Sent = [(b"content-type", self.content_type.encode())]

    def read(self, body: bytes, headers: Headers) -> Reading:
        rows = type(self).read_rows(body, self._schema, self._most_rows)
        return Reading(rows, wants_json(headers.get(b"accept"), self.content_type))

    def write(self, reading: Reading, said: Said) -> tuple[bytes, Sent]:
        if reading.form:
            return self._named.write(Reading(reading.rows, form=False), said)
        columns = answer_columns(said, self._classes, self._kind)
        schema = pa.schema([(name, _TYPES[kind]) for name, _, kind in columns], self._about)
        arrays = [pa.array(values, type=_TYPES[kind]) for _, values, kind in columns]
        return type(self).write_table(pa.Table.from_arrays(arrays, schema=schema)), self._headers


def read_arrow(body: bytes, schema: RowSchema, most_rows: int) -> list[Row]:
    """Return the rows of an Arrow IPC stream.

    Raises:
        Problem: 400 for what is no stream, 413 for one that is too large, 422 for rows that do not
            fit.
    """
    with _reading("Arrow stream"):
        rows = size = 0
        for number, message in enumerate(pa.ipc.MessageReader.open_stream(pa.py_buffer(body))):
            parts = [memoryview(part or b"").cast("B") for part in (message.metadata, message.body)]
            more_rows, more_bytes = message_size(*parts)
            rows, size = rows + more_rows, size + more_bytes
            _check_size(rows, size, most_rows)
            if number > _MOST_MESSAGES or more_rows < 0:
                raise Unsafe("it has too many batches; write larger ones")
        with pa.ipc.open_stream(pa.py_buffer(body)) as reader:
            _check_types(reader.schema, schema)
            table = reader.read_all()
        return _rows(table, schema, most_rows)


def read_parquet(body: bytes, schema: RowSchema, most_rows: int) -> list[Row]:
    """Return the rows of a Parquet file.

    Raises:
        Problem: 400 for what is no Parquet, 413 for a table that is too large, 422 for rows that do
            not fit.
    """
    with _reading("Parquet"):
        names = set(schema.names)
        sizes = file_sizes(memoryview(body), names)
        _check_size(sum(sizes.rows), sizes.size, most_rows)
        # dictionaries are kept: a long text may stand in every row
        file = pq.ParquetFile(pa.BufferReader(body), read_dictionary=sorted(sizes.texts))
        _check_types(file.schema_arrow, schema)
        filled = [number for number, count in enumerate(sizes.rows) if count]
        wanted = [name for name in schema.names if name in file.schema_arrow.names]
        return _rows(file.read_row_groups(filled, wanted, use_threads=False), schema, most_rows)


def write_arrow(table: pa.Table) -> bytes:
    """Return an Arrow IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def write_parquet(table: pa.Table) -> bytes:
    """Return a Parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return bytes(sink.getvalue())


class ArrowDialect(TableDialect):
    """The Dialect of Arrow IPC streams on `/predict`."""

    content_type = "application/vnd.apache.arrow.stream"
    read_rows = staticmethod(read_arrow)
    write_table = staticmethod(write_arrow)


class ParquetDialect(TableDialect):
    """The Dialect of Parquet files on `/predict`."""

    content_type = "application/vnd.apache.parquet"
    read_rows = staticmethod(read_parquet)
    write_table = staticmethod(write_parquet)


@contextmanager
def _reading(what: str) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, Unsafe, OSError, ValueError, KeyError, MemoryError) as e:
        raise malformed(what, e) from e


def _check_size(rows: int, size: int, most_rows: int) -> None:
    if rows > most_rows:
        raise too_many(most_rows)
    if size > MOST_BYTES:
        raise too_large(MOST_BYTES)


def _check_types(arrow: pa.Schema, schema: RowSchema) -> None:
    """Refuse columns that cannot be values of the signature, before they are read."""
    for name in schema.names:
        for field in (arrow.field(at) for at in arrow.get_all_field_indices(name)):
            if not _is_readable(field.type):
                raise misfit(f"Arrow's {field.type} cannot be read", pointer(0, name), None, name)


def _is_readable(kind: pa.DataType) -> bool:
    types = pa.types
    if types.is_dictionary(kind):
        return _is_text(kind.value_type)
    known = (types.is_null, types.is_boolean, types.is_integer, types.is_floating)
    dated = (types.is_timestamp, types.is_date)
    return _is_text(kind) or any(is_one(kind) for is_one in (*known, types.is_decimal, *dated))


def _is_text(kind: pa.DataType) -> bool:
    types = pa.types
    return any(
        is_one(kind) for is_one in (types.is_string, types.is_large_string, types.is_string_view)
    )


def _rows(table: pa.Table, schema: RowSchema, most_rows: int) -> list[Row]:
    table.validate(full=True)  # before anything is looked at: offsets may point anywhere
    taken = [at for at, name in enumerate(table.column_names) if name in schema.names]
    names = [table.column_names[at] for at in taken]
    placed = Placed(schema, names, most_rows)
    left = MOST_BYTES
    columns = []
    for at in taken:
        values = _values(table.column(at))
        if values and isinstance(values[0], str) or pa.types.is_dictionary(table.field(at).type):
            left -= sum(map(len, filter(None, values)))
            if left < 0:  # one text of a dictionary may stand in every row
                raise too_large(MOST_BYTES)
        columns.append(values)
    rows = list(zip(*columns, strict=True)) if columns else [()] * table.num_rows
    return placed.convert(
        rows, lambda row, at: pointer(row, None if at is None else placed.names[at])
    )


def _values(column: pa.ChunkedArray) -> list[Any]:
    """Return plain Python values, None for what is missing and what is no number."""
    kind, types = column.type, pa.types
    if types.is_dictionary(kind):
        return [value for chunk in column.chunks for value in _texts(chunk)]
    if types.is_floating(kind):
        column = pc.cast(column, pa.float64())
        return _listed(pc.if_else(pc.is_finite(column), column, None))
    if types.is_decimal(kind):
        return _listed(pc.cast(column, pa.string()))  # exactly; the signature says what it becomes
    if types.is_timestamp(kind) or types.is_date(kind):
        said = pc.cast(column, pa.string())
        return _listed(pc.replace_substring(said, " ", "T", max_replacements=1))
    return _listed(column)


def _texts(chunk: pa.DictionaryArray) -> Iterable[str | None]:
    known: list[str | None] = chunk.dictionary.to_pylist()
    return [None if at is None else known[at] for at in chunk.indices.to_pylist()]


def _listed(column: pa.ChunkedArray) -> list[Any]:
    found: list[Any] = column.to_pylist()
    return found


if TYPE_CHECKING:
    from charkha.serving.dialects.port import Dialect

    def _fits(model: ServedModel) -> Sequence[Dialect]:
        return ArrowDialect(model, "champion", 1), ParquetDialect(model, "champion", 1)
