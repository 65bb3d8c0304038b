"""Tests of whether a window and the reference are rows of one distribution.

Each takes counts in cells and returns a statistic with its p-value. The reference is a sample too:
its size enters every variance, so that a profile of 300 rows is not taken for the truth.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.special import bdtr, bdtrc, chdtrc, kolmogorov

from charkha.data.profiles.profile import Counts, Floats
from charkha.monitoring.cells import Cells

_EXPECTED = 5.0  # rows of either side in a cell of the chi-squared test (Cochran 1954)
_NORMAL = 20.0  # expected rows from which on a count is taken as normal
_DRAWN = 5_000  # rows of the smaller side up to which a chi-squared's tail is drawn
_FAR, _NEAR = 1e-7, 0.01  # between these, by the approximation, it matters what p is
_DRAWS, _MOST_DRAWS, _HITS = 5_000, 40_000, 40  # tables at once, at most, and as large as ours
_MOST_ROWS = 1_000_000_000  # of which NumPy draws tables


class Statistic(NamedTuple):
    """What a test measured, and how probable so much of it is where nothing has changed."""

    value: float
    p: float


NOTHING = Statistic(0.0, 1.0)


def kolmogorov_smirnov(cells: Cells) -> Statistic:
    """Return the largest distance between the two cumulated distributions.

    Two-sample Kolmogorov-Smirnov (Smirnov 1948), with Stephens' correction for small samples
    (1970). Where values are tied, p is larger than it had to be.
    """
    rows, seen = cells.sizes
    if not rows or not seen:
        return NOTHING
    reference, window = cells.shares
    distance = float(np.abs(np.cumsum(reference) - np.cumsum(window)).max())
    root = math.sqrt(rows * seen / (rows + seen))
    return Statistic(distance, float(kolmogorov((root + 0.12 + 0.11 / root) * distance)))


def rank_test(cells: Cells) -> Statistic:
    """Return how much more probable it is that a value of the window is the greater one.

    Mann & Whitney (1947), with the correction for ties; the value is Cliff's delta, from -1 (all of
    the window lies below) to 1 (above); p is two-sided, by the normal approximation.
    """
    rows, seen = cells.sizes
    if not rows or not seen:
        return NOTHING
    excess, deviations = _linear(cells, _middle_ranks(cells))
    return Statistic(2 * excess / (rows * seen), _two_sided(deviations))


def spread_test(cells: Cells) -> Statistic:
    """Return how much further from the middle the window's ranks lie, in standard errors.

    Mood (1954): the squared distance of a rank from the middle one, averaged over ties as Mielke
    (1967) does. Positive: the window is wider. A shift moves it too, so it is read beside the
    rank test.
    """
    rows, seen = cells.sizes
    if not rows or not seen:
        return NOTHING
    total, pooled = rows + seen, cells.pooled.astype(np.float64)
    scores = (_middle_ranks(cells) - (total + 1) / 2) ** 2 + (pooled**2 - 1) / 12
    _, deviations = _linear(cells, np.where(pooled > 0, scores, 0.0))
    return Statistic(deviations, _two_sided(deviations))


def chi_squared(cells: Cells) -> Statistic:
    """Return Pearson's chi-squared of a 2 x k table.

    Cells of which one side is expected to have fewer than five rows are taken together, the rarest
    first; which ones follows from both sides together, so that the test stays valid.

    Far out, where verdicts are made, the approximation of a few hundred rows is down to half of the
    true p. There tables with the same margins are drawn, and p is the part of them that differ as
    much (Fisher 1935; Patefield 1981): exact but for the drawing.
    """
    rows, seen = cells.sizes
    if not rows or not seen:
        return NOTHING
    table = _pooled_rare(cells)
    if len(table.pooled) < 2:
        return NOTHING
    total = rows + seen
    value = 0.0
    for side, size in ((table.reference, rows), (table.window, seen)):
        expected = table.pooled * (size / total)
        value += float(((side - expected) ** 2 / expected).sum())
    p = float(chdtrc(len(table.pooled) - 1, value))
    if _FAR < p < _NEAR and min(rows, seen) <= _DRAWN and total < _MOST_ROWS:
        p = _drawn(table, value)
    return Statistic(value, p)


def shares_differ(reference: tuple[int, int], window: tuple[int, int]) -> Statistic:
    """Return how much larger a share is in the window, such as that of missing values.

    Two-sided; by the normal approximation of the hypergeometric distribution where counts are
    large, else by the binomial, which is wider.

    Args:
        reference: rows of which something is true, and all rows.
        window: the same.
    """
    (had, rows), (has, seen) = reference, window
    if not rows or not seen:
        return NOTHING
    total, of_both = rows + seen, had + has
    if of_both in (0, total):
        return NOTHING
    difference = has / seen - had / rows
    if 2 * of_both > total:  # the rarer of both is counted
        of_both, has = total - of_both, seen - has
    share = seen / total
    expected = of_both * share
    if min(expected, of_both - expected) >= _NORMAL:
        variance = expected * (1 - share) * (total - of_both) / (total - 1)
        return Statistic(difference, _two_sided((has - expected) / math.sqrt(variance)))
    upper = float(bdtrc(has - 1, of_both, share)) if has else 1.0
    return Statistic(difference, min(1.0, 2 * min(upper, float(bdtr(has, of_both, share)))))


def all_in_window(count: int, rows: int, seen: int) -> float:
    """Return how probable it is that `count` given rows of both sides all lie in the window.

    The hypergeometric tail: of `rows` + `seen` rows in a random order, the `count` greatest (or all
    of one label) are among the `seen`. So it is exact for values beyond the reference's range.
    """
    if count == 0:
        return 1.0
    if count > seen:
        return 0.0
    inside = math.lgamma(seen + 1) - math.lgamma(seen - count + 1)
    total = rows + seen
    return math.exp(inside - math.lgamma(total + 1) + math.lgamma(total - count + 1))


def _middle_ranks(cells: Cells) -> Floats:
    """Return each cell's rank in both sides together, from 1; the middle one of those that tie."""
    pooled = cells.pooled
    return np.cumsum(pooled) - (pooled - 1) / 2


def _linear(cells: Cells, scores: Floats) -> tuple[float, float]:
    """Return how far the window's sum of scores is above what it should be, also in standard errors.

    The variance is that over all permutations of the rows (Hájek & Šidák 1967): ties are in it.
    """
    rows, seen = cells.sizes
    total = rows + seen
    weights = cells.pooled / total
    centred = scores - float(weights @ scores)
    excess = float(cells.window @ centred)
    variance = rows * seen / (total - 1) * float(weights @ centred**2) if total > 1 else 0.0
    if variance <= 0:
        return 0.0, 0.0
    return excess, excess / math.sqrt(variance)


def _two_sided(deviations: float) -> float:
    return math.erfc(abs(deviations) / math.sqrt(2))


def _drawn(table: Cells, value: float) -> float:
    """Return how probable so large a chi-squared is, among tables with the margins of this one."""
    chance = np.random.default_rng(0)
    pooled, smaller = table.pooled, min(table.sizes)
    share = smaller / int(pooled.sum())
    expected = pooled * share
    hits = done = 0
    while hits < _HITS and done < _MOST_DRAWS:
        sides = chance.multivariate_hypergeometric(pooled, smaller, _DRAWS, method="marginals")
        values = ((sides - expected) ** 2 / expected).sum(axis=1) / (1 - share)
        hits += int((values >= value * (1 - 1e-9)).sum())
        done += _DRAWS
    return (hits + 1) / (done + 1)


def _pooled_rare(cells: Cells) -> Cells:
    """Return the table without empty cells, the rare ones taken together."""
    pooled: Counts = cells.pooled
    rows, seen = cells.sizes
    order = np.argsort(pooled, kind="stable")
    order = order[pooled[order] > 0]
    expected = pooled[order] * (min(rows, seen) / (rows + seen))
    rare = int((expected < _EXPECTED).sum())
    if rare and expected[:rare].sum() < _EXPECTED:  # together they are still too few
        rare += 1
    starts = [0, *range(max(rare, 1), len(order))]
    return Cells(
        reference=np.add.reduceat(cells.reference[order], starts),
        window=np.add.reduceat(cells.window[order], starts),
    )
