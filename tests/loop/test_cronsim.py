"""When a schedule was last due: in UTC, to the second, and nonsense is refused."""

import time
from datetime import UTC, datetime, timedelta

import pytest

from charkha.errors import ProjectError
from charkha.loop.cronsim import last_due


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("cron", "now", "due"),
    [
        ("0 3 * * 1", "2026-11-26T14:30:00", "2026-11-23T03:00:00"),
        ("*/15 * * * *", "2026-11-26T14:31:02.5", "2026-11-26T14:30:00"),
        ("0 0 1 * *", "2026-03-01T00:00:00", "2026-03-01T00:00:00"),
        ("0 0 29 2 *", "2026-11-26T00:00:00", "2024-02-29T00:00:00"),
        ("30 2 * * *", "2026-03-29T12:00:00", "2026-03-29T02:30:00"),  # Berlin skips it
    ],
)
def test_the_last_due_moment_is_the_one_before(cron, now, due):
    assert last_due(cron, at(now)) == at(due)


def test_a_moment_that_is_due_now_counts_and_one_that_comes_does_not():
    due = at("2026-11-26T03:00:00")
    assert last_due("0 3 * * *", due) == due
    assert last_due("0 3 * * *", due + 0.4) == due
    for early in (1.0, 0.6, 0.4, 0.001):
        assert last_due("0 3 * * *", due - early) == due - 86_400


@pytest.fixture
def berlin(monkeypatch):
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("berlin")
def test_a_schedule_is_in_utc_whatever_the_machines_zone_does():
    days = [datetime(2026, 3, 27, 12, tzinfo=UTC) + timedelta(days=n) for n in range(4)]
    asked = [last_due("30 2 * * *", day.timestamp()) for day in days]
    assert {later - sooner for sooner, later in zip(asked, asked[1:], strict=False)} == {86_400.0}
    assert datetime.fromtimestamp(asked[0], UTC).hour == 2


@pytest.mark.parametrize("cron", ["0 25 * * *", "* * * * fun", "", "0 0 30 2 *", "0 0 31 4,6 *"])
def test_nonsense_is_refused_and_says_where_it_stands(cron):
    with pytest.raises(ProjectError, match="is no schedule") as refused:
        last_due(cron, at("2026-11-26T03:00:00"))
    assert refused.value.where == "charkha.toml, [[trigger]]"
