"""Rows in, predictions out: files and streams of rows read by a model's signature, and answered.

CSV is read as text and typed by the signature, so that a postcode stays a text and a wrong value is
named with its row. JSON lines come typed already. Empty cells and null mean: no value.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field

import pandas as pd
import pyarrow as pa

from charkha.errors import DataError
from charkha.models.formats import FORMATS, Format
from charkha.models.package import ModelPackage
from charkha.plugins import find


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Predictions in the order of the rows."""

    target: str
    predictions: list[object]  # numbers or labels, as plain Python values
    probabilities: list[dict[str, float]] | None = None  # for each row: label -> probability
    notices: list[str] = field(default_factory=list)

    def table(self) -> pd.DataFrame:
        """Return one row for each prediction: row (from 1), the target, and its probabilities."""
        columns: dict[str, object] = {
            "row": range(1, len(self.predictions) + 1),
            self.target: self.predictions,
        }
        for label in self.probabilities[0] if self.probabilities else ():
            columns[f"p({label})"] = [shares[label] for shares in self.probabilities or ()]
        return pd.DataFrame(columns)


def score_rows(package: ModelPackage, rows: pd.DataFrame, *, onnx: bool = False) -> Scores:
    """Predict.

    Args:
        package: of the model.
        rows: at least the columns of its signature; the target may be among them.
        onnx: ask the ONNX twin instead of the model.

    Raises:
        DataError: a column is missing or a value is of a wrong type; says which and where.
        UserError: `onnx`, and the package has no twin.
    """
    said = (package.answer_onnx if onnx else package.answer)(rows)
    shares = None
    if said.probabilities is not None and said.classes is not None:
        names = [str(label) for label in said.classes]
        shares = [dict(zip(names, line, strict=True)) for line in said.probabilities.tolist()]
    return Scores(
        target=package.about.target,
        predictions=said.values.tolist(),
        probabilities=shares,
        notices=list(package.notices),
    )


def read_rows(data: bytes, form: Format, where: str) -> pd.DataFrame:
    """Read a table.

    Args:
        data: the bytes of a file.
        form: what they are.
        where: the file's name, for the message.

    Raises:
        DataError: they are no such table, or have no rows; says in which line, where that is known.
    """
    if not data.strip():
        raise DataError(f"{where} is empty", fix="give at least one row; CSV has a header above")
    rows = _READERS[form](data, where)
    if len(rows) == 0:
        raise DataError(f"{where} has no rows", fix="give at least one row to predict")
    return rows


def write_scores(scores: Scores, form: Format) -> bytes:
    """Return the table of predictions as a file of this format."""
    table = scores.table()
    if form == "csv":
        return table.to_csv(index=False).encode()
    if form == "parquet":
        return bytes(find("codecs", "parquet")().encode(table))
    lines = (json.dumps(record, ensure_ascii=False) for record in table.to_dict("records"))
    return "".join(f"{line}\n" for line in lines).encode()


def _read_csv(data: bytes, where: str) -> pd.DataFrame:
    try:
        rows = pd.read_csv(io.BytesIO(data), dtype=str, keep_default_na=False, index_col=False)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as e:
        raise DataError(
            f"{where} is no CSV: {_first_line(e)}", fix="write it as UTF-8, commas between columns"
        ) from e
    return rows


def _read_parquet(data: bytes, where: str) -> pd.DataFrame:
    try:
        return pd.read_parquet(io.BytesIO(data))
    except (pa.ArrowException, OSError) as e:
        raise DataError(
            f"{where} is no Parquet: {_first_line(e)}", fix=f"add --format {'|'.join(FORMATS)}"
        ) from e


def _read_jsonl(data: bytes, where: str) -> pd.DataFrame:
    records = []
    for number, line in enumerate(data.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as e:
            raise DataError(
                f"{where}, line {number} is no JSON: {e}", fix="write one object on each line"
            ) from e
        if not isinstance(record, dict):
            raise DataError(
                f"{where}, line {number} is a {type(record).__name__} and no object",
                fix='write one object on each line: {"column": value, …}',
            )
        records.append(record)
    names = dict.fromkeys(name for record in records for name in record)
    return pd.DataFrame(
        {n: pd.Series([record.get(n) for record in records], dtype=object) for n in names}
    )


_READERS: dict[Format, Callable[[bytes, str], pd.DataFrame]] = {
    "csv": _read_csv,
    "parquet": _read_parquet,
    "jsonl": _read_jsonl,
}


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
