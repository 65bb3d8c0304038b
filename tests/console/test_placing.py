"""Where a value lies in a profile, held against the rows that the profile was made of."""

import math
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest

from charkha.console.stories.placing import place
from charkha.data.profiles.building import build_profile
from charkha.data.profiles.profile import GRID, Categories


def column(values):
    return build_profile({"x": pd.Series(values)}).columns["x"]


def test_the_quantile_of_a_number_is_that_of_the_training_rows():
    values = np.random.default_rng(1).lognormal(0, 1, 30_000)
    told = column(values)
    for given in np.quantile(values, [0.05, 0.3, 0.5, 0.9]) * 1.00001:
        exact = (values < given).mean()
        assert place(float(given), told).quantile == pytest.approx(exact, abs=1 / GRID)


def test_a_number_that_many_rows_share_lies_in_their_middle():
    told = column([0.0] * 60 + [1.0] * 20 + [2.0] * 20)
    assert place(0.0, told).quantile == pytest.approx(0.3)
    assert place(1, told).quantile == pytest.approx(0.7)
    assert place(0.0, told).where == "usual"


def test_what_training_never_reached_is_out_of_range_on_its_side():
    told = column(np.arange(1.0, 1001.0))
    for given, words in ((0.5, "below the least of training, 1"), (1001, "above the greatest")):
        placed = place(given, told)
        assert placed.where == "out of range"
        assert placed.text.startswith(words)
    assert [place(v, told).where for v in (1.0, 500.0, 1000.0)] == ["edge", "usual", "edge"]


def test_a_label_has_its_share_and_one_that_was_never_seen_has_none():
    told = column(["North"] * 70 + ["South"] * 30)
    assert place("South", told).share == pytest.approx(0.3)
    assert place("West", told).where == "unseen"
    assert place("West", told).share == 0


def test_beyond_the_labels_that_are_kept_nobody_says_that_one_was_never_seen():
    told = Categories(
        rows=2000, missing=0, labels=("a", "b"), counts=np.array([600, 300]), other=100
    )
    assert place("street 999", told).where == "rare"
    assert place("b", told).share == pytest.approx(0.3)


@pytest.mark.parametrize("nothing", [None, math.nan, math.inf])
def test_what_is_missing_is_unusual_only_where_training_seldom_missed_it(nothing):
    assert place(nothing, column(np.arange(100.0))).where == "missing"
    often = column([None, *np.arange(9.0)] * 20)
    assert place(nothing, often).where == "usual"
    assert place(nothing, often).share == pytest.approx(0.1)


def test_what_is_redacted_is_no_missing_value():
    assert place(None, column([1.0, 2.0]), redacted=True).where == "redacted"


def test_a_text_among_numbers_is_of_the_wrong_type():
    assert place("many", column([1.0, 2.0, 3.0])).where == "wrong type"


def test_a_moment_is_placed_among_moments():
    told = column(pd.date_range("2008-01-01", periods=1000, freq="D"))
    assert place(datetime(2009, 5, 15, tzinfo=UTC), told).quantile == pytest.approx(0.5, abs=0.01)
    assert "2010-09-26" in place(datetime(2020, 1, 1), told).text


def test_without_a_profile_nothing_is_said():
    assert place(1.0, None).where == "unknown"
