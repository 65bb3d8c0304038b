"""Whether a window has drifted: the decision, its reason, and when it is an alarm."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from charkha.data.profiles.building import build_profile
from charkha.data.profiles.window import summarise
from charkha.monitoring.drift import Told, alarm, judge
from charkha.project import MonitoringSettings

SETTINGS = MonitoringSettings()


def rows(count, seed, **changes):
    chance = np.random.default_rng(seed)
    made = {
        "area": chance.lognormal(7, 0.3, count),
        "rooms": chance.integers(1, 9, count),
        "place": chance.choice(["North", "South", "West"], count, p=[0.5, 0.3, 0.2]),
        "garden": chance.random(count) < 0.3,
        "code": [f"{chance.choice(list('ABC'))}{n:05}" for n in chance.permutation(count)],
        "balance": chance.normal(0, 1, count),
    }
    return pd.DataFrame({**made, **{name: change(made[name]) for name, change in changes.items()}})


REFERENCE = rows(20_000, 0)
PROFILE = build_profile({name: REFERENCE[name] for name in REFERENCE.columns})


def verdict(count=2_000, seed=1, settings=SETTINGS, profile=PROFILE, **changes):
    window = pa.Table.from_pandas(rows(count, seed, **changes), preserve_index=False)
    return judge(profile, summarise(window, profile), settings, rows=count)


def column(found, name):
    return next(c for c in found.columns if c.column == name)


def test_a_window_like_the_reference_has_not_drifted():
    found = verdict()
    assert (found.outcome, found.drifted) == ("no drift", ())
    assert (
        found.because == "none of 6 columns changed by more than chance and enough, in 2,000 rows"
    )


def test_a_shift_says_how_much_and_which_way():
    found = verdict(area=lambda v: v * 1.2)
    assert found.drifted == ("area",)
    said = column(found, "area")
    assert said.because.startswith("median up 19 % (1,095 → 1,307)")
    assert "rank, p" in said.because
    assert said.effects.shift_sd == pytest.approx(np.log(1.2) / 0.3, rel=0.2)
    assert found.because.startswith("1 of 6 columns: area: median up")


def test_a_column_around_zero_is_not_told_in_percent():
    said = column(verdict(balance=lambda v: v - 0.5), "balance")
    assert "%" not in said.because
    assert said.because.startswith("median down (")


def test_a_wider_column_is_told_as_such():
    said = column(verdict(balance=lambda v: v * 1.6), "balance")
    assert said.because.startswith("spread up 6")


def test_labels_that_move_are_named():
    found = verdict(place=lambda v: np.where(v == "South", "North", v))
    assert found.drifted == ("place",)
    assert column(found, "place").because.startswith("'North' 50 % → 81 % (chi2, p = ")


def test_labels_that_the_reference_never_had_are_named():
    found = verdict(place=lambda v: np.where(np.arange(len(v)) % 20 == 0, "Mars", v))
    assert "new: 'Mars', 100 rows (5 %)" in column(found, "place").because
    few = verdict(place=lambda v: np.where(np.arange(len(v)) < 3, "Mars", v))
    assert few.outcome == "no drift"
    assert column(few, "place").notices == ("new: 'Mars', 3 rows (0.15 %)",)


def test_values_that_go_missing_are_drift():
    found = verdict(area=lambda v: np.where(np.arange(len(v)) % 10 == 0, np.nan, v))
    assert found.drifted == ("area",)
    assert column(found, "area").because.startswith("missing 0 % → 10 %")


def test_values_beyond_the_range_are_drift_where_they_are_many_enough():
    found = verdict(balance=lambda v: np.where(np.arange(len(v)) % 25 == 0, 60.0, v))
    assert "80 rows (4 %) beyond -" in column(found, "balance").because
    few = verdict(balance=lambda v: np.where(np.arange(len(v)) < 4, 60.0, v))
    assert few.outcome == "no drift"
    assert "4 rows (0.2 %) beyond" in column(few, "balance").notices[0]


def test_texts_of_another_shape_or_length_are_drift():
    lower = verdict(code=lambda v: [text.lower() for text in v])
    assert "shape: 'A9' 100 % → 0 %" in column(lower, "code").because
    longer = verdict(code=lambda v: [f"{text}0" for text in v])
    assert "length: median up" in column(longer, "code").because


def test_a_change_too_small_to_matter_is_no_drift_however_sure():
    found = verdict(60_000, balance=lambda v: v + 0.06)
    assert found.outcome == "no drift"
    said = column(found, "balance")
    assert said.p < 1e-6
    assert said.because.endswith("too small to matter")
    strict = MonitoringSettings(smallest_shift=0.02)
    assert verdict(60_000, settings=strict, balance=lambda v: v + 0.06).drifted == ("balance",)


def test_few_rows_are_not_enough_data_whatever_they_hold():
    for count in (1, 199):
        found = verdict(count, area=lambda v: v * 100)
        assert found.outcome == "not enough data"
        assert found.because == f"{count} rows, and it takes 200 to tell"
        assert found.columns == ()


def test_a_column_without_values_or_of_one_value_is_no_trouble():
    nothing = verdict(area=lambda v: v * np.nan)
    assert nothing.drifted == ("area",)
    assert "missing 0 % → 100 %" in column(nothing, "area").because
    frame = pd.DataFrame({"one": [5.0] * 900, "none": [np.nan] * 900})
    profile = build_profile({name: frame[name] for name in frame.columns})

    def judged(frame):
        window = pa.Table.from_pandas(frame, preserve_index=False)
        return judge(profile, summarise(window, profile), SETTINGS, rows=len(frame))

    assert judged(frame).outcome == "no drift"
    other = judged(frame.assign(one=6.0))
    assert other.drifted == ("one",)
    assert column(other, "one").effects.wasserstein is None
    assert judged(frame.assign(none=1.0)).drifted == ("none",)


def test_windows_side_by_side_share_the_rate_of_false_alarms():
    window = pa.Table.from_pandas(rows(400, 1, balance=lambda v: v + 0.26), preserve_index=False)
    seen = summarise(window, PROFILE)
    assert judge(PROFILE, seen, SETTINGS, rows=400).outcome == "drift"
    assert judge(PROFILE, seen, SETTINGS, rows=400, family=10_000_000).outcome == "no drift"


def history(*drifted, start=datetime(2026, 11, 1, tzinfo=UTC)):
    """A verdict a day; None is a window with too few rows."""
    return [
        Told(
            outcome="not enough data" if names is None else "drift" if names else "no drift",
            drifted=tuple(names or ()),
            since=start + timedelta(days=day),
        )
        for day, names in enumerate(drifted)
    ]


def test_one_window_is_no_alarm_and_two_in_a_row_are():
    one = alarm(history([], ["area"]), SETTINGS)
    assert (one.raised, one.because) == (False, "area drifted in 1 of 2 windows in a row")
    two = alarm(history([], ["area"], ["area", "rooms"]), SETTINGS)
    assert (two.raised, two.because) == (True, "area drifted in 2 windows in a row")
    assert two.since == {"area": datetime(2026, 11, 2, tzinfo=UTC)}


def test_another_column_does_not_make_it_two():
    assert not alarm(history(["rooms"], ["area"]), SETTINGS).raised


def test_a_window_without_drift_breaks_the_row_and_one_with_few_rows_does_not():
    assert not alarm(history(["area"], [], ["area"]), SETTINGS).raised
    assert alarm(history(["area"], None, ["area"]), SETTINGS).raised


def test_one_window_is_enough_where_it_was_asked_for():
    told = alarm(history(["area"]), MonitoringSettings(windows_in_a_row=1))
    assert (told.raised, told.because) == (True, "area drifted")


def test_there_is_no_alarm_where_nothing_drifts_or_nothing_is_known():
    assert alarm(history(["area"], []), SETTINGS).because == "no column drifted in the last window"
    assert alarm(history(None), SETTINGS).because == "no window has had enough rows"
    assert not alarm([], SETTINGS).raised
