"""Held-out rows in a package: what the model was asked, what it answered, and what was true.

They say how sure the held-out figures are, and what later rows are compared with: a model's errors on
its training rows are too small for that. Columns are called as in records.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow.parquet as parquet

from charkha.models.profiled import INPUT, PREDICTION, TRUTH
from charkha.plugins import find

if TYPE_CHECKING:
    import pyarrow as pa

    from charkha.models.asked import Asked
    from charkha.models.metrics import Task

FILE = "held_out.parquet"
PROBABILITY = "probability."
MOST = 4_000  # rows


@dataclass(frozen=True, kw_only=True)
class HeldOutRows:
    """What a package says of its held-out rows, and those of them that it keeps."""

    task: Task
    target: str
    classes: tuple[object, ...] | None
    scores: Mapping[str, float]  # metric -> its value over all of them
    rows: int
    table: pa.Table | None  # those that are kept; None where it was made without them


def held_out(asked: Asked) -> bytes:
    """Return the bytes of the file: at most `MOST` rows, in the order in which they were given."""
    rows, said = asked.rows["test"], asked.said["test"]
    columns = {f"{INPUT}{name}": rows.inputs[name] for name in rows.inputs.columns}
    columns[PREDICTION] = pd.Series(said.values.tolist())
    if said.probabilities is not None and said.classes is not None:
        for label, column in zip(said.classes, said.probabilities.T, strict=True):
            columns[probability_of(label)] = pd.Series(column)
    columns[TRUTH] = pd.Series(rows.truth.tolist())
    kept = np.sort(np.random.default_rng(0).permutation(len(rows.truth))[:MOST])
    table = pd.DataFrame({name: c.reset_index(drop=True) for name, c in columns.items()})
    encoded: bytes = find("codecs", "parquet")().encode(table.iloc[kept].reset_index(drop=True))
    return encoded


def held_out_of(folder: Path) -> HeldOutRows:
    """Return what the package in a folder knows of its held-out rows; no model is loaded."""
    described = json.loads((folder / "package.json").read_text(encoding="utf-8"))
    file, classes = described.get("held_out"), described["classes"]
    return HeldOutRows(
        task=described["task"],
        target=described["target"],
        classes=None if classes is None else tuple(classes),
        scores=described["metrics"].get("test", {}),
        rows=int(described["data"]["test"]["rows"]),
        table=parquet.read_table(folder / file) if file else None,
    )


def probability_of(label: object) -> str:
    """Return what the column with the probabilities of a class is called."""
    return f"{PROBABILITY}{label if isinstance(label, str) else json.dumps(label)}"
