"""What a file in the data folder is, by its name."""

from __future__ import annotations

from pathlib import Path

CHECKS_SUFFIX = ".checks.toml"  # ames.checks.toml declares what is true of ames.parquet
_FORMATS = {
    ".parquet": "parquet",
    ".csv": "csv",
    ".csv.gz": "csv",
    ".tsv": "tsv",
    ".tsv.gz": "tsv",
    ".jsonl": "jsonl",
    ".jsonl.gz": "jsonl",
}


def table_format(path: Path) -> str | None:
    """Return `parquet`, `csv`, `tsv` or `jsonl`; None for what is no table."""
    name = path.name.lower()
    return next((kind for suffix, kind in _FORMATS.items() if name.endswith(suffix)), None)
