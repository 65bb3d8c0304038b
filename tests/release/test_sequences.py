"""Bounds that hold at every look: simulated with fixed seeds, held against what is promised."""

import numpy as np
import pytest

from charkha.release.sequences import (
    band_radius,
    log_evidence,
    mean_ratio,
    mixture_z,
    quantile_evidence,
    rate_bounds,
    rate_ratio_low,
)

LOOKS = np.arange(100, 2001, 50)


@pytest.fixture
def chance():
    return np.random.default_rng(20261126)


def test_evidence_for_more_hits_than_there_are_seldom_ever_reaches_its_limit(chance):
    hits = np.cumsum(chance.random((2000, 2000)) < 0.03, axis=1)[:, LOOKS - 1]
    odds = np.full(hits.shape, np.log(0.03 / 0.97))
    for more in (True, False):
        found = log_evidence(
            hits[..., None],
            np.broadcast_to(LOOKS, hits.shape)[..., None],
            odds[..., None],
            more=more,
        )
        assert (found >= np.log(20)).any(axis=1).mean() <= 0.05


def test_evidence_grows_where_hits_come_more_often():
    few, many = (
        log_evidence([30.0], [1000.0], [np.log(rate / (1 - rate))], more=True)
        for rate in (0.03, 0.01)
    )
    assert few < 0 < np.log(20) < many


def test_a_rate_is_within_its_bounds_at_all_looks(chance):
    hits = np.cumsum(chance.random((400, 2000)) < 0.02, axis=1)[:, LOOKS - 1]
    bounds = rate_bounds(hits, np.broadcast_to(LOOKS, hits.shape), alpha=0.025)
    wrong = (bounds.low > 0.02) | (bounds.high < 0.02)
    assert wrong.any(axis=1).mean() <= 0.05


def test_bounds_of_a_rate_close_in_and_nothing_is_known_of_no_trials():
    bounds = rate_bounds([0, 0, 50], [0, 100, 10_000], alpha=0.05)
    assert (bounds.low[0], bounds.high[0]) == (0, 1)
    assert bounds.low[1] == 0
    assert bounds.high[1] < 0.12
    assert 0.003 < bounds.low[2] < 0.005 < bounds.high[2] < 0.008


def test_an_outage_that_hits_both_arms_is_nobodys_fault(chance):
    rate = np.where((np.arange(2000) // 200) % 2, 0.3, 0.001)
    arms = [np.cumsum(chance.random((500, 2000)) < rate, axis=1)[:, LOOKS - 1] for _ in range(2)]
    requests = np.broadcast_to(LOOKS, arms[0].shape)[..., None]
    low = rate_ratio_low((arms[0][..., None], arms[1][..., None]), (requests, requests), alpha=0.05)
    assert (low > 1).any(axis=1).mean() <= 0.05


def test_errors_of_the_candidate_are_found_also_where_the_baseline_has_none():
    low = rate_ratio_low(([0.0], [12.0]), ([1000.0], [1000.0]), alpha=0.01)
    assert low > 1


def test_the_share_of_each_stage_counts_for_whose_an_error_should_be():
    even = rate_ratio_low(([10.0], [10.0]), ([1000.0], [1000.0]), alpha=0.05)
    few = rate_ratio_low(([10.0], [10.0]), ([9900.0], [100.0]), alpha=0.05)
    assert even < 1 < few
    both = rate_ratio_low(
        ([10.0, 10.0], [10.0, 0.0]), ([9900.0, 1000.0], [100.0, 1000.0]), alpha=0.05
    )
    assert both < few


def test_a_stage_that_only_one_arm_saw_says_nothing():
    alone = rate_ratio_low(([5.0, 9.0], [5.0, 0.0]), ([100.0, 900.0], [100.0, 0.0]), alpha=0.05)
    assert alone == rate_ratio_low(([5.0], [5.0]), ([100.0], [100.0]), alpha=0.05)


def test_more_looks_need_more_standard_errors_than_one_and_few_pairs_most():
    z = mixture_z([0, 10, 1000, 3000], tuned_at=1000, alpha=0.025)
    assert z[0] == np.inf
    assert z[1] > 5
    assert 2.8 < z[2] < z[1]
    assert z[3] < 1.1 * z[2]


def means(base, cand, at, products=False):
    """Return the arguments of `mean_ratio` after so many pairs, one stratum."""
    x, y = base[:, :at], cand[:, :at]
    apart = [x - x.mean(1, keepdims=True), y - y.mean(1, keepdims=True)]
    count = np.full((len(x), 1), float(at))
    return (
        (count, count),
        (x.mean(1)[:, None], y.mean(1)[:, None]),
        tuple((a**2).sum(1)[:, None] for a in apart),
        (apart[0] * apart[1]).sum(1)[:, None] if products else 0 * count,
    )


def ratios(base, cand, at, **how):
    return mean_ratio(*means(base, cand, at, **how), tuned_at=1000, alphas=(0.025, 0.025))


def test_the_ratio_of_equal_means_is_seldom_ever_outside_its_bounds(chance):
    arms = chance.lognormal(0, 1, (2, 600, 2000))
    wrong = np.zeros(600, bool)
    for at in LOOKS:
        _, bounds = ratios(*arms, at)
        wrong |= (bounds.low > 1) | (bounds.high < 1)
    assert wrong.mean() <= 0.05


def test_pairs_that_correlate_make_the_bounds_narrower(chance):
    shared = chance.lognormal(0, 1, (1, 1000))
    base, cand = (shared * chance.lognormal(0, 0.3, (1, 1000)) for _ in range(2))
    (alone, wide), (paired, narrow) = (ratios(base, cand, 1000, products=p) for p in (False, True))
    assert alone == paired
    assert (narrow.high - narrow.low) * 2 < wide.high - wide.low


def test_a_level_that_moves_between_stages_with_other_shares_moves_no_ratio():
    # Ten times the loss in the second stage, where the candidate has most of the traffic.
    counts = ([900.0, 100.0], [100.0, 900.0])
    level = ([1.0, 10.0], [1.0, 10.0])
    squares = tuple(np.array(n) * np.array(m) ** 2 for n, m in zip(counts, level, strict=True))
    estimate, bounds = mean_ratio(
        counts, level, squares, [0, 0], tuned_at=1000, alphas=(0.05, 0.05)
    )
    assert estimate == pytest.approx(1)
    assert bounds.low < 1 < bounds.high


def test_a_stage_in_which_one_arm_has_no_labels_moves_no_ratio():
    one = mean_ratio(
        ([50.0], [40.0]), ([1.0], [1.1]), ([9.0], [9.0]), [0.0], tuned_at=1000, alphas=(0.05, 0.05)
    )
    two = mean_ratio(
        ([50.0, 900.0], [40.0, 0.0]), ([1.0, 7.0], [1.1, 0.0]), ([9.0, 9.0], [9.0, 0.0]), [0.0, 0.0],
        tuned_at=1000, alphas=(0.05, 0.05),
    )  # fmt: skip
    assert one == two


def test_without_two_rows_in_each_arm_nothing_is_known_of_a_ratio():
    _, bounds = mean_ratio(
        ([1.0], [50.0]), ([1.0], [9.0]), ([0.0], [1.0]), [0.0], tuned_at=1000, alphas=(0.05, 0.05)
    )
    assert (bounds.low, bounds.high) == (-np.inf, np.inf)


def test_a_distribution_is_within_its_band_at_all_looks(chance):
    values = chance.random((300, 2000))
    grid = np.linspace(0.05, 0.95, 19)
    wrong = np.zeros(300, bool)
    for at in LOOKS:
        below = (values[:, :at, None] < grid).mean(axis=1)
        wrong |= np.abs(below - grid).max(axis=1) > band_radius(at, starts_at=100, alpha=0.05)
    assert wrong.mean() <= 0.05
    assert band_radius(99, starts_at=100, alpha=0.05) == np.inf


def histograms(values, bins=60):
    at = np.clip((np.log(values) / np.log(1.1)).astype(int) + bins // 2, 0, bins - 1)
    return np.stack([np.bincount(row, minlength=bins) for row in at])


@pytest.mark.parametrize("quantile", [0.5, 0.95])
def test_equal_latencies_are_seldom_ever_found_slower_or_faster(chance, quantile):
    arms = chance.lognormal(0, 0.5, (2, 300, 2000))
    wrong = np.zeros(300, bool)
    for at in LOOKS[::4]:
        pair = tuple(histograms(arm[:, :at]) for arm in arms)
        for slower in (True, False):
            found = quantile_evidence(pair, quantile, np.array([0]), slower=slower)
            wrong |= found[:, 0] >= np.log(40)
    assert wrong.mean() <= 0.05


def test_a_slower_quantile_is_found_and_bounded_from_both_sides(chance):
    base, cand = chance.lognormal(0, 0.5, (1, 5000)), 1.5 * chance.lognormal(0, 0.5, (1, 5000))
    shifts = np.arange(-10, 11)
    pair = (histograms(base), histograms(cand))
    slower = quantile_evidence(pair, 0.5, shifts, slower=True)[0] >= np.log(40)
    faster = quantile_evidence(pair, 0.5, shifts, slower=False)[0] >= np.log(40)
    low, high = 1.1 ** shifts[slower].max(), 1.1 ** shifts[faster].min()
    assert 1 < low < 1.5 < high < 2
