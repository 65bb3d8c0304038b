"""DuckDB: which ground truth belongs to which prediction, and in which order they come."""

from __future__ import annotations

from typing import TYPE_CHECKING

import duckdb

if TYPE_CHECKING:
    import pyarrow as pa

_JOINED = """
WITH latest AS (
    SELECT id, arg_max(truth, ("time", received)) AS truth, max("time") AS moment
    FROM truths GROUP BY id
), newest AS (
    SELECT * FROM predictions ORDER BY "time" DESC, id DESC {limit}
)
SELECT newest.row AS row, latest.truth AS truth, latest.moment AS moment
FROM newest LEFT JOIN latest ON newest.id = latest.id
ORDER BY newest."time", newest.id
"""


def join(predictions: pa.Table, truths: pa.Table, limit: int | None) -> pa.Table:
    """Return (row, truth, moment), oldest prediction first.

    Args:
        predictions: (row, id, time); times are unix µs, for which DuckDB needs no calendar.
        truths: (id, truth, time, received); of each id the truth of the latest time counts, and of
            those the one received last.
        limit: the newest so many.
    """
    with duckdb.connect(":memory:") as connection:
        connection.register("predictions", predictions)
        connection.register("truths", truths)
        newest = "" if limit is None else f"LIMIT {int(limit)}"
        return connection.sql(_JOINED.format(limit=newest)).to_arrow_table()
