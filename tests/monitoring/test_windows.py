"""Records cut into windows."""

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from charkha.errors import UserError
from charkha.monitoring.windows import Size, cut, size_of

START = datetime(2026, 11, 1, 20, tzinfo=UTC)


def records(count, every=timedelta(hours=1)):
    times = [START + every * n for n in range(count)]
    return pa.table({"time": pa.array(times, pa.timestamp("us", tz="UTC"))})


def sizes(count, size):
    return [w.records.num_rows for w in cut(records(count), size)]


def test_a_size_is_rows_or_time():
    assert size_of("1000") == size_of("1_000") == Size(rows=1000)
    assert size_of("6h") == Size(time=timedelta(hours=6))
    for text in ("0", "-1", "6 months", ""):
        with pytest.raises(UserError, match="no size of a window"):
            size_of(text)


def test_windows_of_rows_end_with_a_whole_one():
    assert sizes(10, Size(rows=4)) == [2, 4, 4]
    assert sizes(8, Size(rows=4)) == [4, 4]
    assert sizes(3, Size(rows=4)) == [3]


def test_windows_of_time_begin_at_midnight():
    found = list(cut(records(30), Size(time=timedelta(days=1))))
    assert [w.records.num_rows for w in found] == [4, 24, 2]
    assert found[1].since == datetime(2026, 11, 2, tzinfo=UTC)
    assert found[1].until == datetime(2026, 11, 2, 23, tzinfo=UTC)


def test_without_a_size_all_is_one_and_nothing_is_none():
    assert sizes(5, None) == [5]
    assert sizes(0, Size(rows=4)) == []
