"""Records cut into windows: so many rows each, or so much time each, oldest first."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as compute

from charkha.errors import UserError

_SIZE = re.compile(r"(\d+)\s*(s|min|h|d|w)?")
_UNITS = {"s": "seconds", "min": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@dataclass(frozen=True, kw_only=True)
class Size:
    """Of one window: either rows or time."""

    rows: int | None = None
    time: timedelta | None = None


@dataclass(frozen=True, kw_only=True)
class Window:
    """Some records, and when the first and the last of them were made."""

    records: pa.Table
    since: datetime
    until: datetime


def size_of(text: str) -> Size:
    """Read `1000` (rows) or `6h` (time).

    Raises:
        UserError: it is neither.
    """
    match = _SIZE.fullmatch(text.strip().replace(",", "").replace("_", ""))
    if match is None or int(match[1]) == 0:
        raise UserError(f"{text!r} is no size of a window", fix="write 1000 (rows), 6h or 1d")
    if match[2] is None:
        return Size(rows=int(match[1]))
    try:
        return Size(time=timedelta(**{_UNITS[match[2]]: int(match[1])}))
    except OverflowError as e:
        raise UserError(f"{text!r} is longer than time", fix="write 6h or 1d") from e


def cut(records: pa.Table, size: Size | None) -> Iterator[Window]:
    """Yield windows of records that are in the order of their `time`; one of all without a size.

    Windows of rows are counted back from the newest, so that the last one is whole and the first
    may be short; those of time begin at whole multiples of it (a day at midnight, UTC).
    """
    count = records.num_rows
    if not count:
        return
    if size is None or (size.rows is not None and size.rows >= count):
        bounds = [0, count]
    elif size.rows is not None:
        bounds = [*range(count, 0, -size.rows), 0][::-1]
    else:
        bounds = _bounds(records, size)
    for start, end in zip(bounds[:-1], bounds[1:], strict=True):
        part = records.slice(start, end - start)
        ends = compute.min_max(part["time"]).as_py()
        yield Window(records=part, since=ends["min"], until=ends["max"])


def _bounds(records: pa.Table, size: Size) -> list[int]:
    span_us = int((size.time or timedelta(days=1)).total_seconds() * 1e6)
    times = records["time"].cast(pa.int64()).to_numpy()
    starts = np.flatnonzero(np.diff(times // span_us)) + 1
    return [0, *starts.tolist(), records.num_rows]
