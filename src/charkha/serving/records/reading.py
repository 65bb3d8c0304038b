"""Reading back what was predicted, with what turned out to be true, as Arrow tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as compute

from charkha.data.late import late
from charkha.definition import nearest
from charkha.errors import UserError
from charkha.project import open_project
from charkha.serving.records import address_of, open_folder
from charkha.serving.records.ids import time_of
from charkha.serving.records.moments import moment_of
from charkha.serving.records.places import open_place
from charkha.serving.records.store import Store, Wanted
from charkha.serving.records.tables import HEAD, TRUTHS, UTC_TIME, aligned, source_of, together

if TYPE_CHECKING:
    from charkha.project import Project

_TRUTHS = pa.schema(
    [pa.field(f.name, pa.int64() if f.type == UTC_TIME else f.type) for f in TRUTHS]
)
_TRUTH = ("ground_truth", "ground_truth_time")


def read_records(
    model: str,
    *,
    since: str | datetime | None = None,
    until: str | datetime | None = None,
    version: int | None = None,
    variant: str | None = None,
    shadow: bool = False,
    columns: Sequence[str] | None = None,
    limit: int | None = None,
    project: Project | None = None,
) -> pa.Table:
    """Return the recorded predictions of a model, oldest first, each exactly once.

    Columns are `id`, `time` (of the request, UTC), `version`, `variant`, `role` ("live" or
    "shadow"), `latency_s`, `key` (the id of the caller's API key), `entities` (a map of texts), one
    `input.NAME` for each input, `prediction`, one `probability.LABEL` for each class,
    `ground_truth` and `ground_truth_time`, which are null until feedback comes. What one version
    lacks is null in its rows.

    Args:
        model: its name in the registry.
        since: the first moment: a datetime, `"2026-11-24"`, or `"7d"` before now; UTC where it has
            no zone.
        until: the moment after the last.
        version: that one only.
        variant: that one only, also where it is a shadow.
        shadow: predictions of shadows, too.
        columns: those only, in this order.
        limit: the newest so many.
        project: the one around the current folder without it.

    Raises:
        UserError: there is no such moment or column.
        MissingExtra: DuckDB is not installed.
        BackendError: the place of the records refuses.
    """
    now = datetime.now(UTC)
    wanted = Wanted(
        model=model,
        since=None if since is None else moment_of(since, now),
        until=None if until is None else moment_of(until, now),
        version=version,
        variant=variant,
        shadow=shadow,
        columns=None if columns is None else frozenset((*columns, "prediction")),
    )
    store = _open_store(project)
    found = store.predictions(wanted, enough=limit)
    with_truth = columns is None or not set(_TRUTH).isdisjoint(columns)
    return _select(_joined(store, found, limit, with_truth=with_truth), columns, found)


def find_record(id: str, *, project: Project | None = None) -> dict[str, Any] | None:
    """Return one prediction with its ground truth, by column; None where there is none.

    Of all models, only what was sealed on the id's own day and those beside it is looked at.

    Raises:
        DataError: it is no id of a prediction.
        MissingExtra: DuckDB is not installed.
        BackendError: the place of the records refuses.
    """
    time_of(id)
    store = _open_store(project)
    found = store.predictions(Wanted(ids=(id,), shadow=True))
    if not found:
        return None
    source = source_of(found[0].schema)
    row = _joined(store, found, 1, with_truth=True).to_pylist()[0]
    entities = row["entities"]
    row["entities"] = None if entities is None else dict(entities)
    return {"model": source.model if source else None, **row}


def known_ids(ids: Iterable[str], *, project: Project | None = None) -> set[str]:
    """Return which of these ids are those of recorded predictions.

    Raises:
        BackendError: the place of the records refuses.
    """
    asked = tuple(sorted(set(ids)))
    wanted = Wanted(ids=asked, shadow=True, columns=frozenset())
    found = _open_store(project).predictions(wanted) if asked else []
    return {id for table in found for id in table["id"].to_pylist()}


def recorded_models(project: Project | None = None) -> list[str]:
    """Return the names of the models of which predictions are recorded.

    Raises:
        BackendError: the place of the records refuses.
    """
    return _open_store(project).models()


def _open_store(project: Project | None) -> Store:
    project = project or open_project()
    return Store(open_folder(project), open_place(address_of(project)))


def _joined(
    store: Store, found: Sequence[pa.Table], limit: int | None, *, with_truth: bool
) -> pa.Table:
    """Return tables as one, oldest first, with the ground truths beside."""
    join = late("charkha.serving.records.duckdb", extra="records").join
    whole = _ordered(together(found or [_nothing()]))
    truths = _truths(store, whole["id"]) if with_truth and found else _TRUTHS.empty_table()
    rows = pa.array(range(whole.num_rows), pa.int64())
    keys = pa.table({"row": rows, "id": whole["id"], "time": whole["time"].cast(pa.int64())})
    order = join(keys, truths, limit)
    whole = whole.take(order["row"])
    if not with_truth:
        return whole
    truth = aligned(order["truth"].to_pylist(), whole.schema.field("prediction").type)
    moments = order["moment"].cast(UTC_TIME)
    return whole.append_column(_TRUTH[0], truth).append_column(_TRUTH[1], moments)


def _truths(store: Store, ids: pa.ChunkedArray) -> pa.Table:
    """Return the ground truths of the days on which these ids were made, which sort by time."""
    ends = compute.min_max(ids).as_py()
    found = store.truths(time_of(ends["min"]).date(), time_of(ends["max"]).date())
    return pa.concat_tables([_TRUTHS.empty_table(), *(t.cast(_TRUTHS) for t in found)])


def _nothing() -> pa.Table:
    return HEAD.append(pa.field("prediction", pa.float64())).empty_table()


def _ordered(table: pa.Table) -> pa.Table:
    """Return the columns in the order in which they are told."""
    names = table.column_names
    inputs = [name for name in names if name.startswith("input.")]
    shares = [name for name in names if name.startswith("probability.")]
    head = [name for name in HEAD.names if name in names]
    rest = [name for name in ("prediction",) if name in names]
    return table.select([*head, *inputs, *rest, *shares])


def _select(table: pa.Table, columns: Sequence[str] | None, found: Sequence[pa.Table]) -> pa.Table:
    if columns is None:
        return table
    absent = [name for name in columns if name not in table.column_names]
    if absent and found:
        known = _known(found)
        meant = nearest(absent[0], known)
        raise UserError(
            f"there is no column {absent[0]!r}",
            fix=f"did you mean {meant!r}?" if meant else f"use {', '.join(known)}",
        )
    for name in absent:  # of no rows nobody knows the inputs
        table = table.append_column(name, pa.nulls(0))
    return table.select(list(columns))


def _known(found: Sequence[pa.Table]) -> list[str]:
    """Return the columns of tables, also those that were not read."""
    names = dict.fromkeys(HEAD.names)
    for source in filter(None, (source_of(table.schema) for table in found)):
        names |= dict.fromkeys(f"input.{column['name']}" for column in source.inputs)
    return [*names, "prediction", *_TRUTH]
