"""Records and ground truths where they are: in sealed files, and in logs that are not sealed yet.

Logs are read first. Of a log that was read, sealed files are left out; one that is gone when it is
to be read was sealed, so that its files are found afterwards. So every record is read exactly once,
whatever a sealer does meanwhile.
"""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as compute
import pyarrow.parquet as parquet

from charkha.errors import Damaged
from charkha.serving.records.ids import time_of
from charkha.serving.records.layout import (
    FEEDBACK,
    day_of,
    log_of,
    model_folder,
    model_of,
    start_of,
)
from charkha.serving.records.replay import LogFile, Replay, list_logs
from charkha.serving.records.source import Source
from charkha.serving.records.tables import (
    UTC_TIME,
    predictions_table,
    source_of,
    truths_table,
)

if TYPE_CHECKING:
    from charkha.serving.records.places.port import Place

_READERS = 8  # files read at once
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which predictions are wanted."""

    model: str | None = None  # None: any
    since: datetime | None = None  # the first moment
    until: datetime | None = None  # the moment after the last
    version: int | None = None
    variant: str | None = None
    shadow: bool = False  # those of shadows, too
    ids: tuple[str, ...] | None = None  # of these only, sorted
    columns: frozenset[str] | None = None  # None: all

    def takes(self, source: Source) -> bool:
        """Whether a source can have predictions that are wanted."""
        return (
            self.model in (None, source.model)
            and self.version in (None, source.version)
            and self.variant in (None, source.variant)
            and (self.shadow or self.variant is not None or source.role == "live")
        )

    def takes_day(self, day: date) -> bool:
        """Whether a day can have predictions that are wanted."""
        return (
            (self.since is None or day >= self.since.date())
            and (self.until is None or start_of(day) < self.until)
            and (self.ids is None or day in self._days)
        )

    def takes_ids(self, least: str, most: str) -> bool:
        """Whether any of the ids lies between these two."""
        if self.ids is None:
            return True
        at = bisect_left(self.ids, least)
        return at < len(self.ids) and self.ids[at] <= most

    @cached_property
    def _days(self) -> frozenset[date]:
        """The days of the ids and those beside them: a clock may have stepped in between."""
        own = {time_of(id).date() for id in self.ids or ()}
        return frozenset(day + timedelta(days=by) for day in own for by in (-1, 0, 1))

    def of(self, table: pa.Table) -> pa.Table:
        """Return the rows of a table that are wanted, with the columns that are."""
        table = table.select(self.among(table.column_names))
        if self.since is not None:
            table = table.filter(compute.field("time") >= pa.scalar(self.since, UTC_TIME))
        if self.until is not None:
            table = table.filter(compute.field("time") < pa.scalar(self.until, UTC_TIME))
        if self.ids is not None:
            table = table.filter(_among(table["id"], self.ids))
        return table

    def among(self, columns: Iterable[str]) -> list[str]:
        """Return which of a table's columns are wanted; `id` and `time` always are."""
        return [c for c in columns if self.columns is None or c in {"id", "time", *self.columns}]


class Store:
    """One look at the records of a project. What comes later is not in it."""

    def __init__(self, folder: Path, place: Place) -> None:
        """Take the folder of the open logs, and the place of the sealed files."""
        self._folder, self._place = folder, place

    def models(self) -> list[str]:
        """Return the models of which there are records, but for sealed ones of a very long name."""
        found = {model_of(f) for f in self._place.folders("") if f.startswith("model=")}
        for log in list_logs(self._folder):
            if log.kind == "predictions":
                with suppress(FileNotFoundError, Damaged):
                    found |= Replay(log).models()
        return sorted(name for name in found if name is not None)

    def predictions(self, wanted: Wanted, enough: int | None = None) -> list[pa.Table]:
        """Return the predictions that are wanted, as tables of one source each.

        Args:
            wanted: which.
            enough: of the newest at least that many will do.
        """
        tables, logs = self._unsealed("predictions", lambda log: _of_log(log, wanted))
        folders = (
            [model_folder(wanted.model)]
            if wanted.model is not None
            else [f for f in self._place.folders("") if f.startswith("model=")]
        )
        days: dict[date, list[str]] = {}
        for above in folders:
            for folder in self._place.folders(above):
                day = day_of(folder)
                if day is not None and wanted.takes_day(day):
                    days.setdefault(day, []).append(folder)
        with ThreadPoolExecutor(_READERS) as pool:
            for day in sorted(days, reverse=True):
                if enough is not None and _since(tables, start_of(day)) >= enough:
                    break
                names = self._sealed(days[day], logs)
                found = pool.map(lambda name: self._of_file(name, wanted), names)
                tables += [table for table in found if table is not None and table.num_rows]
        return [table for table in tables if table.num_rows]

    def truths(self, first: date, last: date, ids: tuple[str, ...] | None = None) -> list[pa.Table]:
        """Return ground truths of the predictions of some days, and perhaps of others.

        Args:
            first: of the days.
            last: of them.
            ids: those of these predictions only.
        """
        tables, logs = self._unsealed("feedback", lambda log: _truths_of_log(log, ids))
        days = {folder: day_of(folder) for folder in self._place.folders(FEEDBACK)}
        wanted = [folder for folder, day in days.items() if day is None or first <= day <= last]
        with ThreadPoolExecutor(_READERS) as pool:
            sealed = list(pool.map(self._truths_of_file, self._sealed(wanted, logs)))
        if ids is not None:
            sealed = [table.filter(_among(table["id"], ids)) for table in sealed]
        return tables + sealed

    def _unsealed(
        self, kind: str, read: Callable[[LogFile], list[pa.Table]]
    ) -> tuple[list[pa.Table], set[str]]:
        """Return what logs hold, and the names of those that were read."""
        tables: list[pa.Table] = []
        seen: set[str] = set()
        for log in list_logs(self._folder):
            if log.kind == kind:
                with suppress(FileNotFoundError):  # it was sealed, and its files are listed later
                    tables += read(log)
                    seen.add(log.name)
        return tables, seen

    def _sealed(self, folders: Iterable[str], logs: set[str]) -> list[str]:
        listed = (name for folder in folders for name in self._place.names(folder))
        return [n for n in listed if n.endswith(".parquet") and log_of(n) not in logs]

    def _of_file(self, name: str, wanted: Wanted) -> pa.Table | None:
        with _reading(name), self._place.open(name) as stream:
            file = parquet.ParquetFile(stream)
            schema = file.schema_arrow
            source = source_of(schema)
            if source is None or not wanted.takes(source) or not _overlaps(file.metadata, wanted):
                return None
            return wanted.of(file.read(wanted.among(schema.names)))

    def _truths_of_file(self, name: str) -> pa.Table:
        with _reading(name), self._place.open(name) as stream:
            return parquet.ParquetFile(stream).read()


@contextmanager
def _reading(name: str) -> Iterator[None]:
    """Tell of a file that is none of Parquet's."""
    try:
        yield
    except pa.ArrowInvalid as e:
        raise Damaged(f"{name} is damaged: {e}", key=name) from e


def _of_log(log: LogFile, wanted: Wanted) -> list[pa.Table]:
    try:
        return [
            wanted.of(predictions_table(piece.source, piece.rows))
            for piece in Replay(log).predictions(_in_lines(wanted.ids))
            if wanted.takes(piece.source)
        ]
    except Damaged as e:  # a sealer will set it aside
        _log.warning("%s", e)
        return []


def _truths_of_log(log: LogFile, ids: tuple[str, ...] | None) -> list[pa.Table]:
    try:
        return [truths_table(piece) for piece in Replay(log).truths(_in_lines(ids))]
    except Damaged as e:
        _log.warning("%s", e)
        return []


def _among(column: pa.ChunkedArray, ids: tuple[str, ...]) -> pa.ChunkedArray:
    """Return which ids are these.

    All are of one length, so that one is found as a part of the text: for a value of Python's Arrow
    would import pandas, 0.4 s of a processor.
    """
    if len(ids) == 1:
        return compute.match_substring(column, ids[0])
    return compute.is_in(column, pa.array(ids, pa.string()))


def _in_lines(ids: tuple[str, ...] | None) -> frozenset[bytes] | None:
    """Return ids as they stand in the lines of logs."""
    return None if ids is None else frozenset(id.encode() for id in ids)


def _since(tables: Iterable[pa.Table], moment: datetime) -> int:
    """Return how many rows are of that moment or later."""
    least = pa.scalar(moment, UTC_TIME)
    return sum(compute.sum(compute.greater_equal(t["time"], least)).as_py() or 0 for t in tables)


def _overlaps(metadata: parquet.FileMetaData, wanted: Wanted) -> bool:
    """Whether a file can have rows that are wanted, by the statistics in its foot."""
    if metadata.num_row_groups != 1:
        return bool(metadata.num_row_groups)
    group = metadata.row_group(0)
    for column in map(group.column, range(group.num_columns)):
        told = column.statistics
        if told is None or not told.has_min_max:
            continue
        if column.path_in_schema == "id" and not wanted.takes_ids(told.min, told.max):
            return False
        if column.path_in_schema == "time" and (
            (wanted.since is not None and told.max < wanted.since)
            or (wanted.until is not None and told.min >= wanted.until)
        ):
            return False
    return True
