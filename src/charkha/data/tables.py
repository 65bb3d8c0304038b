"""Tables in files: Parquet, CSV, TSV and JSON lines as a DataFrame or an Arrow table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as parquet

from charkha.data.formats import table_format
from charkha.errors import DataError

_READERS: dict[str, Callable[[Path], pd.DataFrame]] = {
    "parquet": pd.read_parquet,
    "csv": pd.read_csv,
    "tsv": lambda path: pd.read_csv(path, sep="\t"),
    "jsonl": lambda path: pd.read_json(path, lines=True, convert_dates=False),
}
_BROKEN = (pa.ArrowException, ValueError, OSError)  # EmptyDataError and ParserError are ValueErrors


def read_frame(path: Path) -> pd.DataFrame:
    """Read the table at `path`; the tables in a folder one below the other, by file name.

    Raises:
        DataError: it is no table, is damaged, or the parts of a folder have different columns.
    """
    parts = _parts(path)
    frames = [_read(part) for part in parts]
    for part, frame in zip(parts[1:], frames[1:], strict=True):
        if list(frame.columns) != list(frames[0].columns):
            raise DataError(f"{part} has other columns than {parts[0].name} beside it")
    return frames[0] if len(frames) == 1 else pd.concat(frames, ignore_index=True)


def read_arrow(path: Path) -> pa.Table:
    """Read the table at `path` as Arrow's own, with the types that Parquet has.

    Raises:
        DataError: as `read_frame`.
    """
    if path.is_file() and table_format(path) == "parquet":
        try:
            return parquet.read_table(path)
        except _BROKEN as e:
            raise _damaged(path, e) from e
    return pa.Table.from_pandas(read_frame(path), preserve_index=False)


def shape(path: Path) -> tuple[int, int]:
    """Return the number of rows and of columns, without holding a large table in memory.

    Raises:
        DataError: as `read_frame`.
    """
    shapes = [_shape(part) for part in _parts(path)]
    return sum(rows for rows, _ in shapes), shapes[0][1]


def _shape(path: Path) -> tuple[int, int]:
    kind = table_format(path)
    try:
        if kind == "parquet":
            metadata = parquet.read_metadata(path)
            return metadata.num_rows, len(parquet.read_schema(path).names)
        if kind in ("csv", "tsv"):
            return _csv_shape(path, "\t" if kind == "tsv" else ",")
    except _BROKEN as e:
        raise _damaged(path, e) from e
    return _read(path).shape


def _csv_shape(path: Path, delimiter: str) -> tuple[int, int]:
    parsing = arrow_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    with pa.input_stream(str(path), compression="detect") as stream:
        names = arrow_csv.open_csv(stream, parse_options=parsing).schema.names
    first = arrow_csv.ConvertOptions(
        include_columns=names[:1], column_types={names[0]: pa.string()}
    )
    with (
        pa.input_stream(str(path), compression="detect") as stream,
        arrow_csv.open_csv(stream, parse_options=parsing, convert_options=first) as batches,
    ):
        return sum(batch.num_rows for batch in batches), len(names)


def _read(path: Path) -> pd.DataFrame:
    reader = _READERS[table_format(path) or "csv"]
    try:
        return reader(path)
    except _BROKEN as e:
        raise _damaged(path, e) from e


def _parts(path: Path) -> list[Path]:
    parts = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    kinds = {table_format(part) for part in parts}
    if len(kinds) != 1 or kinds == {None}:
        raise DataError(
            f"{path} is no table: {_suffixes(parts)}",
            fix="annotate the step's parameter as pathlib.Path to get it as it is",
        )
    return parts


def _suffixes(parts: list[Path]) -> str:
    return f"it holds {', '.join(sorted({p.suffix or p.name for p in parts})) or 'no file'}"


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(f"{path} cannot be read as {table_format(path)}: {error}")
