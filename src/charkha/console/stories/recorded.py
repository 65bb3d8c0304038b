"""One prediction as the records have it: its answer, its shadows', and every ground truth that came."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from charkha.serving.records import address_of, open_folder
from charkha.serving.records.ids import is_id, time_of
from charkha.serving.records.places import open_place
from charkha.serving.records.store import Store, Wanted
from charkha.serving.records.tables import aligned_one, source_of

if TYPE_CHECKING:
    from charkha.project import Project

_BEGINNING = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{0,4}(-7[0-9a-f]{0,3}(-[0-9a-f-]{0,17})?)?)?")
_APART = timedelta(minutes=10)  # of an id from the request's time, or from the one that was meant
_INPUT, _SHARE = "input.", "probability."


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """What one variant said, live or as a shadow."""

    id: str
    model: str
    version: int
    variant: str
    role: str  # "live" | "shadow"
    at: datetime
    latency_s: float
    key: str | None  # the id of the caller's API key
    entities: Mapping[str, str | None]
    inputs: Mapping[str, Any]
    target: str
    prediction: Any
    probabilities: Mapping[str, float | None]


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What turned out to be true, as it was told once."""

    value: Any
    at: datetime  # when it was true
    received: datetime


@dataclass(frozen=True, kw_only=True)
class Remembered:
    """All that the records have of an id."""

    live: Recorded | None  # None: the shadows' records alone are here
    shadows: tuple[Recorded, ...]
    truths: tuple[Truth, ...]  # by their times, oldest first; the last one counts


def remembered(project: Project, id: str) -> Remembered | None:
    """Return what is recorded of a prediction; None where nothing is.

    Of the sealed files only those of the id's day and the ones beside it are opened, of them only
    those whose ids span it, and of open logs only its own lines are decoded.

    Raises:
        BackendError: the place of the records refuses.
    """
    store = _store(project)
    tables = store.predictions(Wanted(ids=(id,), shadow=True))
    found = [row for table in tables for row in _rows(table)]
    if not found:
        return None
    day = time_of(id).date()
    told = store.truths(day, day, ids=(id,))
    like = tables[0].schema.field("prediction").type
    live = [row for row in found if row.role == "live"]
    return Remembered(
        live=live[0] if live else None,
        shadows=tuple(row for row in found if row.role == "shadow"),
        truths=tuple(sorted(_truths(told, like), key=lambda t: (t.at, t.received))),
    )


def is_beginning(text: str) -> bool:
    """Whether an id may begin so: its first eight characters at least, and not all of it."""
    return _BEGINNING.fullmatch(text) is not None and not is_id(text)


def beginning_so(project: Project, text: str) -> list[str]:
    """Return the recorded ids that begin so, the oldest first: a minute's worth at most."""
    first = _moment_of(text, "0") - _APART
    last = _moment_of(text, "f") + _APART
    return [id for id in _between(project, first, last) if id.startswith(text)]


def nearest_ids(project: Project, id: str, most: int = 3) -> list[str]:
    """Return the recorded ids that are most like one, among those of its time."""
    moment = time_of(id)
    found = _between(project, moment - _APART, moment + _APART)

    def unlike(other: str) -> tuple[int, float]:
        differing = sum(a != b for a, b in zip(id, other, strict=False))
        return differing, abs((time_of(other) - moment).total_seconds())

    return sorted(found, key=unlike)[:most]


def _between(project: Project, since: datetime, until: datetime) -> list[str]:
    wanted = Wanted(since=since, until=until, shadow=True, columns=frozenset())
    tables = _store(project).predictions(wanted)
    return sorted({id for table in tables for id in table["id"].to_pylist()})


def _moment_of(text: str, rest: str) -> datetime:
    digits = text.replace("-", "")[:12].ljust(12, rest)
    ms = min(int(digits, 16), 253_370_764_800_000)  # the year 9999, where Python's calendar ends
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=max(ms, 86_400_000))


def _store(project: Project) -> Store:
    return Store(open_folder(project), open_place(address_of(project)))


def _rows(table: pa.Table) -> list[Recorded]:
    source = source_of(table.schema)
    if source is None:
        return []
    return [
        Recorded(
            id=row["id"],
            model=source.model,
            version=source.version,
            variant=source.variant,
            role=source.role,
            at=row["time"],
            latency_s=row["latency_s"],
            key=row["key"],
            entities=dict(row["entities"] or ()),
            inputs=_part(row, _INPUT),
            target=source.target,
            prediction=row["prediction"],
            probabilities=_part(row, _SHARE),
        )
        for row in _as_rows(table)
    ]


def _as_rows(table: pa.Table) -> list[dict[str, Any]]:
    """Return rows as Python has them; for a moment Arrow would import pandas, 0.4 s of a processor."""
    zones: dict[str, tzinfo | None] = {}
    for at, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type):
            zones[field.name] = UTC if field.type.tz else None
            whole = table.column(at).cast(pa.timestamp("us", field.type.tz)).cast(pa.int64())
            table = table.set_column(at, field.name, whole)
    rows: list[dict[str, Any]] = table.to_pylist()
    for row in rows:
        for name, zone in zones.items():
            if row[name] is not None:
                row[name] = datetime(1970, 1, 1, tzinfo=zone) + timedelta(microseconds=row[name])
    return rows


def _part(row: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {n.removeprefix(prefix): v for n, v in row.items() if n.startswith(prefix)}


def _truths(tables: list[pa.Table], like: pa.DataType) -> list[Truth]:
    """Return the truths, each way of telling one once."""
    found = {}
    for row in (row for table in tables for row in _as_rows(table)):
        value = aligned_one(row["truth"], like)
        truth = Truth(value=value, at=row["time"], received=row["received"])
        found[json.dumps([row["truth"], str(truth.at), str(truth.received)])] = truth
    return list(found.values())
