"""Records and ground truths as Arrow tables, and as the bytes of Parquet files.

A column has the signature's type where all its values do, and is text (JSON, where a value is none)
where one does not, so that nothing is lost to a type.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet

from charkha.serving.records.feedback import from_text
from charkha.serving.records.lines import FORMAT, Stored, StoredTruth
from charkha.serving.records.source import Source

UTC_TIME = pa.timestamp("us", tz="UTC")
ABOUT = b"charkha.records"  # the key of our own line in a file's metadata
_NUMBERS = {
    "double": pa.float64(),
    "float": pa.float32(),
    "long": pa.int64(),
    "integer": pa.int32(),
}
_ENTITIES = pa.map_(pa.string(), pa.string())
HEAD = pa.schema(
    [
        ("id", pa.string()),
        ("time", UTC_TIME),
        ("version", pa.int64()),
        ("variant", pa.string()),
        ("role", pa.string()),
        ("latency_s", pa.float64()),
        ("key", pa.string()),
        ("entities", _ENTITIES),
    ]
)
"""The columns that every prediction has, before its inputs."""
TRUTHS = pa.schema(
    [("id", pa.string()), ("truth", pa.string()), ("time", UTC_TIME), ("received", UTC_TIME)]
)
"""The columns of ground truths; `truth` is JSON."""


def predictions_table(source: Source, records: Sequence[Stored]) -> pa.Table:
    """Return records of one source as a table, with the source in its metadata."""
    ids, times, latencies, keys, entities, inputs, values, shares = (
        zip(*(record[1:] for record in records), strict=True) if records else ((),) * 8
    )
    count = len(records)
    columns: dict[str, pa.Array] = {
        "id": pa.array(ids, pa.string()),
        "time": pa.array(times, pa.int64()).cast(UTC_TIME),
        "version": pa.array([source.version] * count, pa.int64()),
        "variant": pa.array([source.variant] * count, pa.string()),
        "role": pa.array([source.role] * count, pa.string()),
        "latency_s": pa.array([us / 1e6 for us in latencies], pa.float64()),
        "key": pa.array(keys, pa.string()),
        "entities": pa.array([_pairs(e) for e in entities], _ENTITIES),
    }
    for index, column in enumerate(source.inputs):
        given = [row[index] for row in inputs]
        columns[f"input.{column['name']}"] = _column(given, str(column["type"]))
    columns["prediction"] = _inferred(values or (), of_classes=source.classes)
    for index, label in enumerate(_labels(source, shares)):
        columns[f"probability.{label}"] = pa.array(
            [None if row is None or index >= len(row) else row[index] for row in shares],
            pa.float64(),
        )
    about = {"format": FORMAT, "source": _described(source)}
    return pa.table(columns).replace_schema_metadata({ABOUT: json.dumps(about)})


def truths_table(rows: Sequence[StoredTruth]) -> pa.Table:
    """Return ground truths as a table."""
    ids, truths, times, received = zip(*rows, strict=True) if rows else ((),) * 4
    arrays = [
        pa.array(ids, pa.string()),
        pa.array([json.dumps(truth, ensure_ascii=False) for truth in truths], pa.string()),
        pa.array(times, pa.int64()).cast(UTC_TIME),
        pa.array(received, pa.int64()).cast(UTC_TIME),
    ]
    about = {"format": FORMAT}
    return pa.table(arrays, schema=TRUTHS).replace_schema_metadata({ABOUT: json.dumps(about)})


def source_of(schema: pa.Schema) -> Source | None:
    """Return where the predictions of a file come from; None where it has none."""
    said = json.loads((schema.metadata or {}).get(ABOUT, b"{}")).get("source")
    if said is None:
        return None
    classes = said["classes"]
    said["classes"] = None if classes is None else tuple(classes)
    return Source(**{**said, "inputs": tuple(said["inputs"])})


def aligned(truths: Sequence[str | None], like: pa.DataType) -> pa.Array:
    """Return ground truths (JSON) as an array, of the type of the predictions where that holds them.

    A label that came from a CSV as the number 1 is the text "1" beside predictions that are text.
    """
    values = [None if text is None else _alike(json.loads(text), like) for text in truths]
    if pa.types.is_floating(like) and all(isinstance(v, int | float | None) for v in values):
        return _numbers([None if v is None else float(v) for v in values], pa.float64())
    return _inferred(values) if any(v is not None for v in values) else pa.nulls(len(values), like)


def aligned_one(truth: str, like: pa.DataType) -> Any:
    """Return one ground truth (JSON) as `aligned` has it."""
    value = _alike(json.loads(truth), like)
    return float(value) if isinstance(value, int) and pa.types.is_floating(like) else value


def _alike(value: Any, like: pa.DataType) -> Any:
    if pa.types.is_string(like):
        return value if isinstance(value, str) else json.dumps(value)
    if isinstance(value, str):
        value = from_text(value.strip())
    if pa.types.is_boolean(like) and value in (0, 1):
        return bool(value)
    if pa.types.is_integer(like) and isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def together(tables: Iterable[pa.Table]) -> pa.Table:
    """Return tables one below the other; a column that one lacks is null there.

    Columns of several types become the one that holds all, and text where there is none.
    """
    parts = list(tables)
    types: dict[str, pa.DataType] = {}
    for part in parts:
        for field in part.schema:
            known = types.get(field.name)
            types[field.name] = field.type if known is None else _holding(known, field.type)
    schema = pa.schema(list(types.items()))
    return pa.concat_tables([_shaped(part, schema) for part in parts])


def as_parquet(table: pa.Table) -> bytes:
    """Return a table as the bytes of a Parquet file."""
    sink = pa.BufferOutputStream()
    repeated = [field.name for field in table.schema if _repeats(field)]
    repeated += ["entities.key_value.key", "entities.key_value.value"]
    parquet.write_table(
        table,
        sink,
        compression="zstd",
        use_dictionary=repeated,
        column_encoding={"id": "DELTA_BYTE_ARRAY"},  # each begins as the one before
    )
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _repeats(field: pa.Field) -> bool:
    return field.name in ("version", "variant", "role", "key") or (
        field.name != "id" and field.type in (pa.string(), pa.int32(), pa.int64())
    )


def _pairs(entities: Mapping[str, str | None] | None) -> list[tuple[str, str | None]] | None:
    return None if entities is None else list(entities.items())


def _labels(source: Source, shares: Sequence[Sequence[float | None] | None]) -> list[str]:
    if all(row is None for row in shares):
        return []
    if source.classes is None:
        return [str(index) for index in range(max(len(row) for row in shares if row is not None))]
    return [label if isinstance(label, str) else json.dumps(label) for label in source.classes]


def _described(source: Source) -> dict[str, object]:
    return {
        "model": source.model,
        "version": source.version,
        "variant": source.variant,
        "role": source.role,
        "inputs": [dict(column) for column in source.inputs],
        "target": source.target,
        "classes": None if source.classes is None else list(source.classes),
    }


def _column(values: Sequence[Any], kind: str) -> pa.Array:
    """Return an input's values as an array of the signature's type, or as text."""
    types = set(map(type, values)) - {type(None)}
    if kind == "datetime" and types <= {str}:
        return _moments(values)
    if kind == "string" and types <= {str}:
        return pa.array(values, pa.string())
    if kind == "boolean" and types <= {bool}:
        return pa.array(values, pa.bool_())
    if kind in _NUMBERS:
        allowed = {int} if kind in ("long", "integer") else {int, float}
        if types <= allowed:
            return _numbers(values, _NUMBERS[kind])
    return _inferred(values) if kind not in (*_NUMBERS, "string", "boolean") else _text(values)


def _inferred(values: Sequence[Any], of_classes: Sequence[Any] | None = None) -> pa.Array:
    """Return values as an array of the type that they have, or the classes where there are none."""
    types = set(map(type, values)) - {type(None)} or set(map(type, of_classes or (0.0,)))
    for kinds, arrow in (({bool}, pa.bool_()), ({str}, pa.string())):
        if types <= kinds:
            return pa.array(values, arrow)
    if types <= {int, float}:
        return _numbers(values, pa.int64() if types == {int} else pa.float64())
    return _text(values)


def _numbers(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    try:
        if pa.types.is_floating(kind):  # a large whole number is no error, but the nearest double
            return pa.array([None if v is None else float(v) for v in values], pa.float64()).cast(
                kind, safe=False
            )
        return pa.array(values, kind)
    except (pa.ArrowInvalid, OverflowError):
        return _text(values)


def _moments(values: Sequence[str | None]) -> pa.Array:
    """Return dates and moments as timestamps, in UTC if any has a zone; as text if one is none."""
    try:
        moments = [None if v is None else datetime.fromisoformat(v) for v in values]
        if any(m is not None and m.tzinfo is not None for m in moments):
            zoned = [m if m is None or m.tzinfo else m.replace(tzinfo=UTC) for m in moments]
            return pa.array([m and m.astimezone(UTC) for m in zoned], UTC_TIME)
        return pa.array(moments, pa.timestamp("us"))
    except (ValueError, OverflowError, pa.ArrowInvalid):
        return _text(values)


def _text(values: Sequence[Any]) -> pa.Array:
    texts = [
        v if v is None or isinstance(v, str) else json.dumps(v, ensure_ascii=False) for v in values
    ]
    return pa.array(texts, pa.string())


def _holding(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    """Return the type that holds the values of both."""
    if one.equals(other) or pa.types.is_null(other):
        return one
    if pa.types.is_null(one):
        return other
    if pa.types.is_integer(one) and pa.types.is_integer(other):
        return pa.int64()
    numbers = (pa.types.is_integer, pa.types.is_floating)
    if all(any(is_a(t) for is_a in numbers) for t in (one, other)):
        return pa.float64()
    if pa.types.is_timestamp(one) and pa.types.is_timestamp(other):
        return UTC_TIME
    return pa.string()


def _shaped(part: pa.Table, schema: pa.Schema) -> pa.Table:
    arrays = []
    for field in schema:
        at = part.schema.get_field_index(field.name)
        if at < 0:
            arrays.append(pa.nulls(part.num_rows, field.type))
        elif part.schema.field(at).type.equals(field.type):
            arrays.append(part.column(at))
        else:
            arrays.append(_cast(part.column(at), field.type))
    return pa.table(arrays, schema=schema)


def _cast(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    if pa.types.is_timestamp(column.type) and pa.types.is_timestamp(kind):
        return column.cast(pa.timestamp("us")).cast(kind)  # one without a zone is taken as UTC
    return column.cast(kind, safe=False)
