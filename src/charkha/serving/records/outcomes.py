"""Outcomes in a file: CSV, JSON lines or Parquet rows as feedback, and what is wrong with which."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from importlib import import_module
from typing import Any
from uuid import UUID

from charkha.data.late import late
from charkha.definition import nearest
from charkha.errors import DataError
from charkha.models.formats import Format
from charkha.serving.records.feedback import Feedback, Wrong, check, from_text

FIELDS = ("id", "ground_truth", "time")


@dataclass(kw_only=True)
class Outcomes:
    """What a file says."""

    feedback: list[Feedback] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)  # `row 3: id: …`, without the values


def read_outcomes(data: bytes, form: Format, names: Mapping[str, str], place: str) -> Outcomes:
    """Return the feedback in a file; a row that is none is told, and the others count.

    Args:
        data: the file.
        form: its format.
        names: of the columns that hold `id`, `ground_truth` and `time`, where they are others.
        place: what the file is called.

    Raises:
        DataError: it is no such file, or has no such columns.
        MissingExtra: it is Parquet, and pyarrow is not installed.
    """
    columns = {name: names.get(name, name) for name in FIELDS}
    found = Outcomes()
    rows = {"csv": _csv_rows, "jsonl": _json_rows, "parquet": _parquet_rows}[form](data, place)
    for number, row in enumerate(rows, 1):
        if isinstance(row, str):
            found.wrong.append(f"row {number}: {row}")
            continue
        if number == 1 or form == "jsonl":
            _check_columns(row, columns, names, f"{place}, row {number}")
        try:
            found.feedback.append(_read(row, columns, text=form == "csv"))
        except Wrong as e:
            found.wrong.append(f"row {number}: {columns[e.field]}: {e.what}")
    return found


def _read(row: Mapping[str, Any], columns: Mapping[str, str], *, text: bool) -> Feedback:
    id, truth, time = (row.get(columns[name]) for name in FIELDS)
    if text:
        if truth in (None, ""):
            raise Wrong("Expected a value, there is none", "ground_truth")
        truth = from_text(str(truth))
    if isinstance(truth, Decimal):
        truth = float(truth)
    if isinstance(time, date) and not isinstance(time, datetime):
        time = time.isoformat()
    if time is not None and not isinstance(time, str | datetime):
        raise Wrong("Expected a date in ISO 8601, such as 2026-11-24T10:00:00Z", "time")
    return check(str(id) if isinstance(id, str | UUID) else "", truth, time or None)


def _check_columns(
    row: Mapping[str, Any], columns: Mapping[str, str], names: Mapping[str, str], place: str
) -> None:
    for name, column in columns.items():
        if column not in row and (name != "time" or name in names):
            raise DataError(
                f"{place} has no column {column!r}; it has {', '.join(map(str, row))}",
                fix=f"--column {name}={nearest(column, row) or 'NAME'}",
            )


def _csv_rows(data: bytes, place: str) -> Iterator[dict[str, Any] | str]:
    try:
        text = io.StringIO(data.decode("utf-8-sig"), newline="")
        reader = csv.DictReader(text, strict=True)
        if reader.fieldnames is None:
            raise DataError(
                f"{place} is empty", fix="give a CSV whose first line names its columns"
            )
        for row in reader:
            extra = None in row or None in row.values()
            yield "it has more or fewer cells than the first line has names" if extra else row
    except (UnicodeDecodeError, csv.Error) as e:
        raise DataError(f"{place} is no CSV in UTF-8: {e}") from e


def _json_rows(data: bytes, place: str) -> Iterator[dict[str, Any] | str]:
    try:
        lines = data.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as e:
        raise DataError(f"{place} is not in UTF-8: {e}") from e
    for line in lines:
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            yield "it is no JSON"
            continue
        yield row if isinstance(row, dict) else "it is no JSON object"


def _parquet_rows(data: bytes, place: str) -> Iterator[dict[str, Any] | str]:
    parquet = late("pyarrow.parquet", extra="records")
    invalid = import_module("pyarrow").ArrowInvalid
    try:
        table = parquet.read_table(io.BytesIO(data))
    except invalid as e:
        raise DataError(f"{place} is no Parquet file: {e}") from e
    for batch in table.to_batches():
        yield from batch.to_pylist()
