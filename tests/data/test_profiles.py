"""A profile: small, the same for the same rows, and as good as the rows for a comparison."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy.stats import ks_2samp

from charkha.data.profiles.building import build_profile, profile_column
from charkha.data.profiles.profile import GRID, KEPT, Categories, Numbers, Texts
from charkha.data.profiles.storing import read_profile, write_profile
from charkha.data.profiles.window import see_column, summarise
from charkha.errors import Damaged, DataError

CHANCE = np.random.default_rng(7)
DISTRIBUTIONS = {
    "normal": lambda n: CHANCE.normal(size=n),
    "lognormal": lambda n: CHANCE.lognormal(0, 2, n),
    "cauchy": lambda n: CHANCE.standard_cauchy(n),
    "atoms": lambda n: np.where(CHANCE.random(n) < 0.4, 0.0, CHANCE.exponential(size=n)),
    "rounded": lambda n: CHANCE.normal(0, 3, n).round(),
    "two clusters": lambda n: CHANCE.normal(size=n) + 1000 * (CHANCE.random(n) < 0.5),
}


def ks(profile, seen):
    """KS from the counts at the edges alone."""
    sides = ((profile.below, seen.below), (profile.upto, seen.upto))
    gaps = [np.abs(r / profile.known - w / seen.known).max() for r, w in sides]
    return max(*gaps, seen.below[0] / seen.known, 1 - seen.upto[-1] / seen.known)


@pytest.mark.parametrize("shape", DISTRIBUTIONS)
@pytest.mark.parametrize("rows", [500, 50_000])
def test_ks_against_it_is_within_a_thousandth_of_the_exact_one(shape, rows):
    draw = DISTRIBUTIONS[shape]
    reference = draw(rows)
    profile = profile_column("x", pd.Series(reference))
    for shift in (0.0, 0.3, 5.0):
        window = draw(3_000) + shift
        exact = ks_2samp(reference, window).statistic
        assert abs(ks(profile, see_column(pa.array(window), profile)) - exact) <= 1e-3


@pytest.mark.parametrize("shape", DISTRIBUTIONS)
def test_what_lies_on_both_sides_of_an_edge_is_counted_exactly(shape):
    values = DISTRIBUTIONS[shape](20_000)
    profile = profile_column("x", pd.Series(values))
    ordered = np.sort(values)
    assert np.array_equal(profile.below, np.searchsorted(ordered, profile.edges, "left"))
    assert np.array_equal(profile.upto, np.searchsorted(ordered, profile.edges, "right"))
    between = profile.below[1:] - profile.upto[:-1]
    assert between.max() <= len(values) / GRID
    assert (profile.edges[0], profile.edges[-1]) == (values.min(), values.max())


def test_its_quantiles_are_those_of_the_rows():
    values = DISTRIBUTIONS["lognormal"](50_000)
    profile = profile_column("x", pd.Series(values))
    for share in (0.25, 0.5, 0.75):
        exact = np.quantile(values, share, method="inverted_cdf")
        assert profile.quantile(share) == exact
    low, middle, high = see_column(pa.array(values), profile).quartiles
    assert [low, middle, high] == [profile.quantile(share) for share in (0.25, 0.5, 0.75)]


def table(rows=5_000, seed=0):
    chance = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "area": np.where(chance.random(rows) < 0.1, np.nan, chance.normal(100, 20, rows)),
            "rooms": chance.integers(1, 9, rows),
            "garden": chance.random(rows) < 0.3,
            "sold": pd.Timestamp("2008-01-01") + pd.to_timedelta(chance.integers(0, 700, rows), "D"),
            "place": chance.choice(["North", "Süd", "West"], rows).astype(object),
            "note": [f"Flat {n} / {chance.integers(100)}" for n in range(rows)],
        }
    )  # fmt: skip


def profiled(frame):
    return build_profile({str(name): frame[name] for name in frame.columns})


def test_the_same_rows_are_the_same_bytes_and_are_read_back():
    written = write_profile(profiled(table()))
    assert written == write_profile(profiled(table()))
    again = read_profile(written, "profile.bin")
    assert write_profile(again) == written
    assert [c.kind for c in again.columns.values()] == [
        "numbers", "numbers", "categories", "moments", "categories", "texts"
    ]  # fmt: skip


def test_the_order_of_the_rows_does_not_matter():
    frame = table()
    turned = frame.sample(frac=1, random_state=1).drop(columns="note")  # of texts a part is taken
    assert write_profile(profiled(turned)) == write_profile(profiled(frame.drop(columns="note")))


def test_arrow_and_pandas_give_the_same_profile():
    frame = table()
    arrow = pa.Table.from_pandas(frame, preserve_index=False)
    columns = {name: arrow.column(name) for name in arrow.column_names}
    assert write_profile(build_profile(columns)) == write_profile(profiled(frame))


@pytest.mark.parametrize("cut", [0, 1, 40, 5_000, -1])
def test_a_file_that_is_cut_or_longer_is_damage(cut):
    written = write_profile(profiled(table()))
    with pytest.raises(Damaged, match=r"profile\.bin"):
        read_profile(written[:cut], "profile.bin")
    with pytest.raises(Damaged, match="too many"):
        read_profile(written + b"0" * 8, "profile.bin")


def test_a_later_format_asks_for_a_later_charkha():
    with pytest.raises(Damaged, match="format 9"):
        read_profile(b'{"charkha":"profile","format":9,"columns":[]}\n', "profile.bin")


def test_missing_values_are_counted_and_are_no_values():
    column = profile_column("x", pd.Series([1.0, np.nan, np.inf, None, 3.0]))
    assert (column.rows, column.missing, column.known) == (5, 3, 2)
    assert column.edges.tolist() == [1.0, 3.0]


def test_a_column_without_a_value_is_all_missing():
    for rows in (pd.Series([np.nan] * 3), pd.Series([None] * 3, dtype=object)):
        column = profile_column("x", rows)
        assert (column.rows, column.known, len(column.edges)) == (3, 0, 0)
        again = read_profile(write_profile(build_profile({"x": rows})), "f").columns["x"]
        assert again.missing == 3
        seen = see_column(pa.array([1.0, None]), column)
        assert (seen.known, seen.missing) == (1, 1)


def test_a_column_that_no_profile_knows_is_refused_by_name():
    with pytest.raises(DataError, match="'x' has no rows"):
        profile_column("x", pd.Series([], dtype=float))
    with pytest.raises(DataError, match="'x' holds list"):
        profile_column("x", pd.Series([[1], [2]]))
    with pytest.raises(DataError, match="'x' holds values of several types"):
        profile_column("x", pd.Series([1, "a", 2.5]))


def test_the_commonest_labels_are_kept_and_the_rest_is_other():
    labels = [f"label {n}" for n in range(300) for _ in range(2 + (n < 100) * 30)]
    column = profile_column("x", pd.Series(labels))
    assert isinstance(column, Categories)
    assert len(column.labels) == KEPT
    assert column.counts.sum() + column.other == len(labels) // 2  # every second row
    assert column.counts[0] == 16
    seen = see_column(pa.array(["label 0", "label 299", "never", None]), column)
    assert (seen.counts[column.labels.index("label 0")], seen.missing) == (1, 1)
    assert dict(seen.unknown) == {"label 299": 1, "never": 1}


def test_pandas_categories_are_categories_however_seldom_they_repeat():
    names = [f"n{n}" for n in range(100)]
    assert isinstance(profile_column("x", pd.Series(names)), Texts)
    assert isinstance(profile_column("x", pd.Series(names, dtype="category")), Categories)


def test_labels_are_the_same_whatever_type_they_came_in():
    classes = profile_column("x", pd.Series([True, False, True, None], dtype=object))
    assert classes.labels == ("true", "false")
    assert see_column(pa.array([True, True, None]), classes).counts.tolist() == [2, 0]
    numbers = profile_column("x", pd.Series([1, 2, 2]).astype("category"))
    assert see_column(pa.array([2.0, 1.0, 1.0]), numbers).counts.tolist() == [1, 2]


def test_a_text_is_its_length_and_its_shape_in_any_script():
    texts = ["Room 4/12", "Дом 7", "房间 12", "flat", "A-1", *(f"Flat {n}" for n in range(30))]
    column = profile_column("x", pd.Series(texts))
    assert isinstance(column, Texts)
    assert set(column.shapes.labels) == {"Aa_9-9", "Aa_9", "a_9", "a", "A-9"}
    assert column.lengths.edges.tolist() == [3, 4, 5, 6, 7, 9]


def test_numbers_that_came_as_text_are_read_and_the_others_counted():
    column = profile_column("x", pd.Series([1.0, 2.0, 3.0]))
    seen = see_column(pa.array(["1", "2.5", "many", None, "NaN"]), column)
    assert (seen.known, seen.missing, seen.wrong) == (2, 2, 1)
    assert seen.upto.tolist() == [1, 1, 2]


def test_what_lies_beyond_the_edges_is_summed():
    column = profile_column("x", pd.Series([1.0, 2.0, 3.0]))
    seen = see_column(pa.array([-1.0, 0.0, 2.0, 13.0]), column)
    assert (seen.beneath, seen.beyond) == (3.0, 10.0)


def test_moments_are_seconds_whatever_their_unit_and_zone():
    column = profile_column("x", pd.Series(pd.to_datetime(["1970-01-02", "1970-01-03"])))
    assert column.edges.tolist() == [86_400.0, 172_800.0]
    zoned = pa.array([86_400_000_000], pa.timestamp("us", tz="UTC"))
    assert see_column(zoned, column).upto.tolist() == [1, 1]


def test_a_window_is_summed_up_for_the_columns_that_it_has():
    profile = profiled(table())
    window = pa.Table.from_pandas(table(50, seed=1)[["rooms", "place"]], preserve_index=False)
    assert list(summarise(window, profile)) == ["rooms", "place"]
    assert list(summarise(window, profile, ["place", "unknown"])) == ["place"]


def test_a_profile_of_many_rows_stays_small():
    chance = np.random.default_rng(0)
    profile = build_profile({"x": pd.Series(chance.normal(size=300_000))})
    assert isinstance(profile.columns["x"], Numbers)
    assert len(write_profile(profile)) <= 1_500_000 / 25
