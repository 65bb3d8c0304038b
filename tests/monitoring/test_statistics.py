"""Every statistic is what scipy says of the rows themselves."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy import stats
from scipy.spatial.distance import jensenshannon

from charkha.data.profiles.building import profile_column
from charkha.data.profiles.window import see_column
from charkha.monitoring import cells, effects
from charkha.monitoring.cells import Cells
from charkha.monitoring.correction import combined, holm
from charkha.monitoring.statistics import (
    all_in_window,
    chi_squared,
    kolmogorov_smirnov,
    rank_test,
    shares_differ,
    spread_test,
)

PAIRS = {
    "normal": lambda c: (c.normal(size=20_000), c.normal(0.1, 1.1, 1_500)),
    "small": lambda c: (c.normal(size=300), c.normal(0.3, 1, 250)),
    "lognormal": lambda c: (c.lognormal(0, 1, 20_000), c.lognormal(0.1, 1, 3_000)),
    "rounded": lambda c: (c.normal(0, 2, 5_000).round(), c.normal(0.2, 2, 700).round()),
    "shifted counts": lambda c: (
        c.poisson(4, 9_000).astype(float),
        c.poisson(4, 900) + 0.3,
    ),
    "zeros": lambda c: (
        np.where(c.random(9_000) < 0.5, 0, c.exponential(size=9_000)),
        np.where(c.random(900) < 0.45, 0, c.exponential(size=900)),
    ),
}


@pytest.fixture(params=PAIRS)
def pair(request):
    """Rows of both sides, and what their profile and window say."""
    reference, window = PAIRS[request.param](np.random.default_rng(3))
    profile = profile_column("x", pd.Series(reference))
    seen = see_column(pa.array(window), profile)
    return reference, window, profile, seen, cells.of_numbers(profile, seen)


def test_ks(pair):
    reference, window, *_, counted = pair
    exact = stats.ks_2samp(reference, window, method="asymp")
    found = kolmogorov_smirnov(counted)
    assert found.value == pytest.approx(exact.statistic, abs=1e-3)
    assert found.p == pytest.approx(exact.pvalue, rel=0.2)


def test_the_rank_test(pair):
    reference, window, *_, counted = pair
    exact = stats.mannwhitneyu(window, reference, use_continuity=False, method="asymptotic")
    found = rank_test(counted)
    delta = 2 * exact.statistic / (len(reference) * len(window)) - 1
    assert found.value == pytest.approx(delta, abs=1e-5)
    assert found.p == pytest.approx(exact.pvalue, rel=5e-3)


def test_the_spread_test(pair):
    reference, window, *_, counted = pair
    exact = stats.mood(window, reference)
    found = spread_test(counted)
    assert found.value == pytest.approx(exact.statistic, abs=2e-2)
    assert found.p == pytest.approx(exact.pvalue, rel=5e-2)


def test_wasserstein(pair):
    reference, window, profile, seen, _ = pair
    exact = stats.wasserstein_distance(reference, window)
    scale = effects.scale_of(profile)
    assert effects.wasserstein(profile, seen) / scale == pytest.approx(exact / scale, abs=3e-3)


def labels(chance):
    return Cells(
        reference=chance.multinomial(5_000, [0.5, 0.3, 0.15, 0.05]),
        window=chance.multinomial(800, [0.45, 0.33, 0.15, 0.07]),
    )


def test_chi_squared():
    counted = labels(np.random.default_rng(0))
    exact = stats.chi2_contingency([counted.reference, counted.window], correction=False)
    assert chi_squared(counted).value == pytest.approx(exact.statistic)
    assert chi_squared(counted).p == pytest.approx(exact.pvalue, rel=0.3)  # drawn, see below
    many = Cells(reference=counted.reference * 10, window=counted.window * 10)
    exact = stats.chi2_contingency([many.reference, many.window], correction=False)
    assert chi_squared(many).p == pytest.approx(exact.pvalue)


def test_far_out_the_p_of_a_small_window_is_that_of_all_tables_with_its_margins():
    counted = Cells(reference=np.array([19_400, 600]), window=np.array([182, 18]))
    found = chi_squared(counted)
    tables = stats.hypergeom(20_200, 618, 200)
    rare = np.arange(100)
    as_large = np.abs(rare - 618 * 200 / 20_200) >= 18 - 618 * 200 / 20_200 - 1e-9
    exact = tables.pmf(rare)[as_large].sum()
    by_the_approximation = stats.chi2(1).sf(found.value)
    assert by_the_approximation < exact / 3
    assert found.p == pytest.approx(exact, rel=0.6)


def test_jensen_shannon_and_psi():
    counted = labels(np.random.default_rng(0))
    reference, window = counted.shares
    assert effects.jensen_shannon(counted) == pytest.approx(jensenshannon(reference, window, 2))
    exact = stats.entropy(reference, window) + stats.entropy(window, reference)
    assert effects.psi(counted) == pytest.approx(exact, rel=0.02)  # half a row in each cell


def test_rare_labels_are_taken_together():
    counted = Cells(
        reference=np.array([900, 80, 3, 2, 4, 1, 0]), window=np.array([85, 9, 1, 1, 2, 2, 0])
    )
    exact = stats.chi2_contingency([[900, 90], [85, 15]], correction=False)
    assert chi_squared(counted).value == pytest.approx(exact.statistic)


@pytest.mark.parametrize(
    ("reference", "window"),
    [((0, 1000), (5, 200)), ((3, 1000), (6, 200)), ((990, 1000), (180, 200)), ((0, 30), (1, 30))],
)
def test_few_missing_values_are_compared_exactly_enough(reference, window):
    (a, n), (b, m) = reference, window
    exact = stats.hypergeom(n + m, a + b, m)
    tails = 2 * min(exact.sf(b - 1), exact.cdf(b), 0.5)
    found = shares_differ(reference, window)
    assert found.value == pytest.approx(b / m - a / n)
    assert tails * 0.99 <= found.p <= max(2 * tails, tails + 0.1)  # never too sure of itself


def test_many_missing_values_are_compared_by_their_variance():
    table = [[300, 9_700], [60, 940]]
    exact = stats.chi2_contingency(table, correction=False)
    assert shares_differ((300, 10_000), (60, 1_000)).p == pytest.approx(exact.pvalue, rel=1e-2)


def test_what_is_the_same_on_both_sides_is_no_difference():
    assert shares_differ((0, 100), (0, 100)).p == 1.0
    assert shares_differ((100, 100), (100, 100)).p == 1.0
    assert shares_differ((5, 100), (0, 0)).p == 1.0


def test_values_beyond_the_range_are_as_probable_as_counting_says():
    assert all_in_window(1, 1000, 100) == pytest.approx(100 / 1100)
    assert all_in_window(2, 1000, 100) == pytest.approx(100 / 1100 * 99 / 1099)
    assert (all_in_window(0, 10, 10), all_in_window(11, 10, 10)) == (1.0, 0.0)


@pytest.mark.parametrize("test", [kolmogorov_smirnov, rank_test, spread_test, chi_squared])
def test_nothing_to_compare_is_no_change(test):
    nothing, some = np.array([0, 0, 0]), np.array([0, 7, 0])
    for reference, window in ((nothing, some), (some, nothing), (some, some), (nothing, nothing)):
        assert test(Cells(reference=reference, window=window)).p == 1.0


def test_a_reference_of_few_rows_is_not_taken_for_the_truth():
    few = Cells(reference=np.array([30, 20]), window=np.array([4_000, 6_000]))
    many = Cells(reference=np.array([30_000, 20_000]), window=np.array([4_000, 6_000]))
    assert chi_squared(few).p > 1e-3 > chi_squared(many).p
    assert rank_test(few).p > 1e-3 > rank_test(many).p


def test_a_normal_shift_is_told_in_its_own_unit():
    distance = 2 * stats.norm.cdf(0.1) - 1
    assert effects.shift_of(distance) == pytest.approx(0.2)
    assert effects.shift_of(0.0) == 0.0


def test_p_values_of_a_column_are_divided_by_their_weights():
    assert combined([(0.01, 0.5), (0.4, 0.5)]) == pytest.approx(0.02)
    assert combined([(0.9, 0.5), (0.8, 0.5)]) == 1.0


def test_holm_is_that_of_the_textbook():
    found = holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert {name: round(p, 6) for name, (p, _) in found.items()} == {
        "d": 0.02, "a": 0.03, "c": 0.06, "b": 0.06
    }  # fmt: skip
    assert holm({}) == {}
