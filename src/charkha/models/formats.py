"""The formats of rows to predict, told from a file's name."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from charkha.errors import UserError

Format = Literal["csv", "parquet", "jsonl"]
FORMATS: tuple[Format, ...] = ("csv", "parquet", "jsonl")
_SUFFIXES: dict[str, Format] = {
    ".csv": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
}


def format_of(path: str, given: Format | None) -> Format:
    """Return the format of a file by its name, or the one that was given.

    Raises:
        UserError: the name does not tell.
    """
    if given:
        return given
    suffix = Path(path).suffix.lower()
    if suffix not in _SUFFIXES:
        what = "standard input has no name" if path == "-" else f"{path} does not tell its format"
        raise UserError(what, fix=f"add --format {'|'.join(FORMATS)}")
    return _SUFFIXES[suffix]
