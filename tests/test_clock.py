"""Moments as a person reads them, on machines in any time zone."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone

import pytest

from charkha.clock import between, of_day, to_minute, to_second, without

AT = datetime(2026, 11, 23, 22, 45, 1, 999_999, tzinfo=UTC)
ZONES = ("UTC", "EST5", "IST-5:30")


@pytest.fixture(params=ZONES)
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield request.param
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    "at", [AT, AT.timestamp(), AT.astimezone(timezone(timedelta(hours=5, minutes=30)))]
)
def test_a_moment_is_the_same_text_in_every_zone(zone: str, at: datetime | float) -> None:
    assert to_second(at) == "2026-11-23 22:45:01Z"
    assert to_minute(at) == "2026-11-23 22:45Z"
    assert of_day(at) == "22:45:01Z"


def test_a_window_names_its_second_day_only_where_it_is_another_one() -> None:
    assert between(AT, AT + timedelta(minutes=25)) == "2026-11-23 22:45Z to 23:10Z"
    assert between(AT, AT + timedelta(hours=2)) == "2026-11-23 22:45Z to 2026-11-24 00:45Z"


def test_ids_of_runs_sort_by_time_whatever_the_zone_of_the_machine_that_made_them() -> None:
    made = []
    for zone in ("IST-5:30", "EST5"):  # the second clock is behind the first
        done = subprocess.run(
            [sys.executable, "-c", "from charkha.pipeline.journal import new_id; print(new_id())"],
            env=os.environ | {"TZ": zone},
            capture_output=True,
            text=True,
            check=True,
        )
        made.append(done.stdout)
    assert made == sorted(made)


@pytest.mark.parametrize(
    "line", [f"{to_second(AT)}  it ended", f"{of_day(AT)}  it ended", "it ended"]
)
def test_a_line_without_its_moment_is_the_rest(line: str) -> None:
    assert without(line) == "it ended"
    assert without(f"since {line}") == f"since {line}"
