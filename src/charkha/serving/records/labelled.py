"""Records whose truth has come, as rows: read, and kept as the same bytes for the same rows."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as compute
import pyarrow.parquet as parquet

from charkha.errors import DataError
from charkha.serving.records.reading import read_records
from charkha.serving.records.tables import UTC_TIME

if TYPE_CHECKING:
    from charkha.project import Project

_INPUT = "input."
TIME = "predicted_at"  # the column with the moment of the request, UTC


def bytes_of(
    project: Project, model: str, target: str, *, since: str | None, until: str | None
) -> bytes | None:
    """Return the rows with their truth as bytes, from which `rows_of` reads them; None of no rows.

    Raises:
        UserError: `since` or `until` is no moment.
        DataError: two columns would have one name.
        BackendError: the records refuse.
    """
    found = read_records(model, since=since, until=until, project=project)
    known = found.filter(compute.is_valid(found["ground_truth"]))
    if known.num_rows == 0:
        return None
    names = {n.removeprefix(_INPUT): n for n in known.column_names if n.startswith(_INPUT)}
    for taken in (target, TIME):
        if taken in names:
            raise DataError(
                f"{model} has an input {taken!r}, which is also what labelled() calls "
                + ("the truth" if taken == target else "the moment of the request"),
                fix='labelled(target="…") with another name'
                if taken == target
                else "give the input another name",
            )
    rows = pa.table(
        {
            **{name: known[column] for name, column in names.items()},
            target: known["ground_truth"],
            TIME: known["time"],
        }
    )
    sink = io.BytesIO()
    # One chunk a column: where a log ended, or whether it was sealed, is nothing about the rows.
    parquet.write_table(rows.combine_chunks(), sink, compression="zstd")
    return sink.getvalue()


def rows_of(content: bytes) -> pa.Table:
    """Return the rows that `bytes_of` returned."""
    return parquet.read_table(io.BytesIO(content))


def no_rows(target: str) -> pa.Table:
    """Return a table of no rows, with the columns that are known beforehand."""
    return pa.table({target: pa.array([], pa.float64()), TIME: pa.array([], UTC_TIME)})
