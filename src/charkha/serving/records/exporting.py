"""Records for others: rows as plain values, and tables as the bytes of a file."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as compute
import pyarrow.csv as arrow_csv
import pyarrow.parquet as parquet

from charkha.models.formats import Format


def plain_rows(table: pa.Table) -> Iterator[dict[str, Any]]:
    """Yield rows as JSON can say them: moments in ISO 8601, entities as an object."""
    for batch in table.to_batches(max_chunksize=10_000):
        for row in batch.to_pylist():
            yield plain_row(row)


def plain_row(row: dict[str, Any]) -> dict[str, Any]:
    """Return one row as JSON can say it."""
    said = {}
    for name, value in row.items():
        if isinstance(value, datetime):
            value = value.isoformat().replace("+00:00", "Z")
        elif name == "entities" and isinstance(value, list):
            value = dict(value)
        said[name] = value
    return said


def as_json_line(row: dict[str, Any]) -> str:
    """Return one plain row as a line; NaN and infinities, which JSON lacks, as texts."""
    try:
        return json.dumps(row, ensure_ascii=False, allow_nan=False, default=str)
    except ValueError:
        odd = {n: str(v) if isinstance(v, float) and v - v != 0 else v for n, v in row.items()}
        return json.dumps(odd, ensure_ascii=False, default=str)


def as_file(table: pa.Table, form: Format) -> bytes:
    """Return a table as the bytes of a file."""
    if form == "jsonl":
        return "".join(f"{as_json_line(row)}\n" for row in plain_rows(table)).encode()
    sink = io.BytesIO()
    if form == "parquet":
        parquet.write_table(table, sink, compression="zstd")
    else:
        arrow_csv.write_csv(_flat(table), sink)
    return sink.getvalue()


def _flat(table: pa.Table) -> pa.Table:
    """Return a table with what a CSV can hold: maps as JSON, moments in ISO 8601."""
    for at, field in enumerate(table.schema):
        column = table.column(at)
        if pa.types.is_map(field.type):
            texts = [
                None if v is None else json.dumps(dict(v), ensure_ascii=False)
                for v in column.to_pylist()
            ]
            table = table.set_column(at, field.name, pa.array(texts, pa.string()))
        elif pa.types.is_timestamp(field.type):
            plain = column.cast(pa.timestamp("us"))
            zone = "Z" if field.type.tz else ""
            texts = compute.strftime(plain, format=f"%Y-%m-%dT%H:%M:%S{zone}")
            table = table.set_column(at, field.name, texts)
    return table
