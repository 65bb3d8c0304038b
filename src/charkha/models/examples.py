"""Recorded examples: up to 32 rows as a request carries them, and what the stored model answers.

Whoever loads a version later, its twin or the model itself, on another machine, can see whether it
still answers so. The rows are picked for what goes wrong: missing values, rare texts, the smallest
and the largest number of a column.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain, zip_longest

import numpy as np
import pandas as pd

from charkha.models.asked import Asked
from charkha.models.signature import Column, conform
from charkha.models.twin import allowed

FILE = "examples.json"
MOST = 32
_ODD = 24  # of them; the rest is spread evenly over the rows
_BY_COLUMN = 4  # picked for one column's sake


def recorded(asked: Asked) -> str:
    """Return the text of the file.

    {"rows": [[…]], "values": […], "probabilities": [[…]] or null, "tolerance": 0.01}: a row has the
    signature's order, null for what is missing, and dates in ISO 8601. Numbers or probabilities may
    differ by the tolerance.
    """
    table = asked.rows[asked.sample].inputs
    rows = as_requests(table.iloc[pick(table)], asked.columns)
    names = [column.name for column in asked.columns]
    said = asked.ask(conform(pd.DataFrame(rows, columns=names, dtype=object), asked.columns).rows)
    shares = said.probabilities
    told = {
        "rows": rows,
        "values": said.values.tolist(),
        "probabilities": None if shares is None else shares.tolist(),
        "tolerance": allowed(asked.said[asked.sample]),
    }
    lines = (f"{json.dumps(key)}: {_listed(value)}" for key, value in told.items())
    return "{\n" + ",\n".join(lines) + "\n}\n"


def pick(table: pd.DataFrame) -> list[int]:
    """Return the positions of at most `MOST` rows, ascending; the same for the same table."""
    odd = (_odd(table[name]) for name in table.columns)
    in_turn = chain.from_iterable(zip_longest(*odd))  # each column's oddest, then each one's next
    picked = list(dict.fromkeys(at for at in in_turn if at is not None))[:_ODD]
    spread = np.linspace(0, len(table) - 1, MOST - len(picked)).astype(int).tolist()
    return sorted({*picked, *spread})


def as_requests(table: pd.DataFrame, columns: tuple[Column, ...]) -> list[list[object]]:
    """Return rows whose values JSON can carry."""
    by_column = (
        [None if pd.isna(v) else _plain(v, column.type) for v in table[column.name].tolist()]
        for column in columns
    )
    return [list(row) for row in zip(*by_column, strict=True)]


def _odd(values: pd.Series) -> Iterator[int]:
    """Yield the positions of a column's rows that are worth asking for, the oddest first."""
    missing = np.flatnonzero(values.isna())
    yield from missing[:1].tolist()
    present = np.flatnonzero(values.notna())
    if len(present) == 0:
        return
    known = values.iloc[present]
    if pd.api.types.is_numeric_dtype(known.dtype) and not pd.api.types.is_bool_dtype(known.dtype):
        numbers = known.to_numpy(dtype=np.float64)
        yield from (int(present[numbers.argmin()]), int(present[numbers.argmax()]))
        return
    codes = pd.factorize(known)[0]
    _, first, counts = np.unique(codes, return_index=True, return_counts=True)
    rarest = np.lexsort((first, counts))[:_BY_COLUMN]
    yield from present[first[rarest]].tolist()


def _plain(value: object, kind: str) -> object:
    if kind == "datetime":
        return pd.Timestamp(value).isoformat()  # type: ignore[arg-type]
    return value


def _listed(value: object) -> str:
    """Return JSON with a line for each element, so that a difference can be read."""
    if not isinstance(value, list):
        return json.dumps(value)
    return "[\n" + ",\n".join(f"  {json.dumps(v, ensure_ascii=False)}" for v in value) + "\n]"
