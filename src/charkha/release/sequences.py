"""Confidence sequences: intervals that hold at every look, however often somebody looks.

All functions are pure, take arrays of any shape that broadcast together, and return arrays; the
benchmark calls them for a thousand simulated releases at once. A bound at level `alpha` is one-sided: the
probability that it is *ever* on the wrong side of the truth is at most `alpha`. Sources stand with
each function; docs/explanation/how-a-release-is-judged.md says the same in words.
"""

from __future__ import annotations

from collections.abc import Callable
from math import log
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# How much higher or lower the log-odds may be than supposed, each as likely as the others
# beforehand; even on a log scale, so that small and large differences cost the same to look for.
_SHIFTS = np.geomspace(0.05, 4.0, 24)


class Bounds(NamedTuple):
    """Two one-sided bounds; infinite where nothing is known yet."""

    low: Floats
    high: Floats


def mixture_z(pairs: ArrayLike, *, tuned_at: float, alpha: float) -> Floats:
    """Return how many standard errors a difference of means may be off, at any look.

    Robbins' normal mixture, one-sided, with the variance estimated: an asymptotic confidence
    sequence (Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas, arXiv 2103.06476, Theorem 2.2 and appendix on
    one-sided sequences). It is as narrow as it can be at `tuned_at`, and not much wider at a third or
    three times of it.

    Args:
        pairs: how many pairs the arms are worth, 2 · n₁ · n₂ / (n₁ + n₂); infinite z at 0.
        tuned_at: how many pairs a release is expected to collect.
        alpha: probability of ever being wrong on this side.
    """
    two = 2 * alpha
    spread = -2 * log(two) + log(-2 * log(two)) + 1 if two < 0.5 else 1.0
    known = np.asarray(pairs, float) * spread / tuned_at
    with np.errstate(divide="ignore"):
        return np.sqrt(2 * (1 + 1 / known) * np.log1p(np.sqrt(known + 1) / two))


def ratio_bounds(
    means: tuple[ArrayLike, ArrayLike],
    errors: tuple[ArrayLike, ArrayLike],
    covariance: ArrayLike,
    z: tuple[ArrayLike, ArrayLike],
) -> Bounds:
    """Return bounds of the ratio of two means, candidate to baseline (Fieller 1954).

    A ratio r is ruled out where `candidate - r · baseline` is more than z standard errors from 0.

    Args:
        means: of baseline and candidate, at least 0.
        errors: variances of those two means.
        covariance: of the two means; 0 unless the rows are the same.
        z: standard errors allowed for the lower and for the upper bound.
    """
    base, cand = np.asarray(means[0], float), np.asarray(means[1], float)
    of_base, of_cand = np.asarray(errors[0], float), np.asarray(errors[1], float)
    shared = np.asarray(covariance, float)
    low, high = (_fieller(base, cand, of_base, of_cand, shared, np.asarray(a, float)) for a in z)
    return Bounds(low[0], high[1])


def _fieller(
    base: Floats, cand: Floats, of_base: Floats, of_cand: Floats, shared: Floats, z: Floats
) -> tuple[Floats, Floats]:
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        square = z**2
        a = base**2 - square * of_base
        b = base * cand - square * shared
        c = cand**2 - square * of_cand
        root = np.sqrt(np.maximum(b**2 - a * c, 0))
        known = np.isfinite(square) & (a > 0)
        low, high = np.divide(b - root, a), np.divide(b + root, a)
    return np.where(known, low, -np.inf), np.where(known, high, np.inf)


def log_evidence(hits: ArrayLike, trials: ArrayLike, odds: ArrayLike, *, more: bool) -> Floats:
    """Return the logarithm of the evidence that hits come more (or less) often than supposed.

    A mixture of likelihood ratios of Bernoulli trials over log-odds that are higher (lower) by
    0.05 to 4. Where hits come no more often than supposed, it is a supermartingale that starts at 1: the
    probability that it ever reaches 1/alpha is at most alpha (Ville 1939; Robbins 1970; as a test:
    Ramdas, Grünwald, Vovk & Shafer, arXiv 2210.01948). Exact for any number of trials.

    Args:
        hits: (..., strata) how many came.
        trials: (..., strata) of how many.
        odds: (..., strata) the log-odds of a hit that are supposed.
        more: whether more hits speak for it, or fewer.
    """
    given, of, at = (np.asarray(a, float)[..., None] for a in (hits, trials, odds))
    shifts = _SHIFTS if more else -_SHIFTS
    gain = np.logaddexp(0, at + shifts) - np.logaddexp(0, at)
    return _log_mean((given * shifts - of * gain).sum(axis=-2))


def _log_mean(logs: Floats) -> Floats:
    """Return the logarithm of the mean of the exponentials along the last axis."""
    highest = logs.max(axis=-1)
    mean: Floats = highest + np.log(np.exp(logs - highest[..., None]).mean(axis=-1))
    return mean


def rate_ratio_low(
    errors: tuple[ArrayLike, ArrayLike], requests: tuple[ArrayLike, ArrayLike], *, alpha: float
) -> Floats:
    """Return the lower bound of the ratio of two error rates, candidate to baseline.

    Whose was each error? If both arms err alike, an error is the candidate's as often as a request is,
    however the rate of errors moves: an outage hits both (Lindon & Malek, arXiv 2011.03567, for counts; here
    with a mixture over the ratio, and a stratum for each share). Without an error the bound is 0.

    Args:
        errors: (..., strata) of baseline and candidate.
        requests: (..., strata) of baseline and candidate, the same windows.
        alpha: probability of the bound being ever above the truth.
    """
    base, cand = (np.asarray(a, float) for a in errors)
    with np.errstate(divide="ignore", invalid="ignore"):
        odds = np.log(np.asarray(requests[1], float)) - np.log(np.asarray(requests[0], float))
    told = np.isfinite(odds)  # a stratum that only one arm saw says nothing
    hits, trials = np.where(told, cand, 0), np.where(told, base + cand, 0)
    odds = np.where(told, odds, 0.0)

    def ruled_out(ratio: Floats) -> NDArray[np.bool_]:
        return log_evidence(hits, trials, odds + ratio[..., None], more=True) >= -log(alpha)

    found = _largest(ruled_out, hits.shape[:-1], -8.0, 8.0)
    ratio: Floats = np.exp(found)
    return ratio


def rate_bounds(hits: ArrayLike, trials: ArrayLike, *, alpha: float) -> Bounds:
    """Return bounds of a rate, each of them at `alpha`: what `log_evidence` does not rule out."""
    given, of = np.asarray(hits, float)[..., None], np.asarray(trials, float)[..., None]
    limit = -log(alpha)

    def above(odds: Floats) -> NDArray[np.bool_]:  # the rate is surely above these odds
        return log_evidence(given, of, odds[..., None], more=True) >= limit

    def below(odds: Floats) -> NDArray[np.bool_]:
        return log_evidence(given, of, -odds[..., None], more=False) >= limit

    shape = given.shape[:-1]
    low, high = _largest(above, shape, -20.0, 20.0), -_largest(below, shape, -20.0, 20.0)
    with np.errstate(over="ignore"):
        return Bounds(1 / (1 + np.exp(-low)), 1 / (1 + np.exp(-high)))


def _largest(
    holds: Callable[[Floats], NDArray[np.bool_]], shape: tuple[int, ...], low: float, high: float
) -> Floats:
    """Return the largest value for which `holds`, which is so up to a point; -inf if for none."""
    bottom, top = np.full(shape, low), np.full(shape, high)
    for _ in range(40):
        middle = (bottom + top) / 2
        held = holds(middle)
        bottom, top = np.where(held, middle, bottom), np.where(held, top, middle)
    return np.where(bottom > low, bottom, -np.inf)


def band_radius(count: ArrayLike, *, starts_at: float, alpha: float) -> Floats:
    """Return how far an empirical distribution function may be from the true one, anywhere.

    Howard & Ramdas, Sequential estimation of quantiles (Bernoulli 2022, arXiv 1906.09712), Theorem 2 with
    its own constants: 0.85 · sqrt((log log(e n / m) + 0.8 log(1612 / alpha)) / n) for all n ≥ m at
    once; a DKW inequality that holds at every look. Infinite before m.

    Args:
        count: n, observations.
        starts_at: m, where looking begins.
        alpha: probability that the function is ever further away somewhere.
    """
    seen = np.asarray(count, float)
    with np.errstate(divide="ignore", invalid="ignore"):
        times = np.maximum(seen / starts_at, 1)
        radius = 0.85 * np.sqrt((np.log(np.log(np.e * times)) + 0.8 * log(1612 / alpha)) / seen)
    return np.where(seen >= starts_at, radius, np.inf)


def quantile_evidence(
    counts: tuple[ArrayLike, ArrayLike], quantile: float, shifts: Ints, *, slower: bool
) -> Floats:
    """Return the log-evidence against each ratio of a quantile, candidate to baseline.

    Whether a value is below a quantile is a Bernoulli trial of known probability, whatever the
    distribution (Howard & Ramdas 2022, section 3). Where the baseline's quantile lies is not known, so
    the evidence is that of the place for which it is weakest: the baseline's that it lies there times
    the candidate's that its own does not lie so many bins further up. Bins are of equal ratio, so a
    ratio is a number of bins; the rounding is on the safe side.

    Args:
        counts: (..., bins) histograms of baseline and candidate.
        quantile: such as 0.95.
        shifts: (k,) ratios in bins; 0 is «the same».
        slower: evidence that the candidate is slower than each ratio, else that it is faster.

    Returns:
        (..., k) logarithms of e-values.
    """
    base, cand = (np.asarray(a, float) for a in counts)
    odds = log(quantile / (1 - quantile))
    below_base, below_cand = np.cumsum(base, -1), np.cumsum(cand, -1)
    of_base, of_cand = below_base[..., -1:], below_cand[..., -1:]
    before = np.concatenate([np.zeros_like(of_base), below_base[..., :-1]], -1)
    # The baseline's quantile is not in bin x: too few values up to its end, or too many before it.
    not_here = np.logaddexp(
        _trials(below_base, of_base, odds, more=False), _trials(before, of_base, odds, more=True)
    ) - log(2)
    bins = base.shape[-1]
    padded = np.concatenate([np.zeros_like(of_cand), below_cand], -1)  # up to the end of bin x - 1
    cut = _trials(padded, of_cand, odds, more=not slower)  # (..., bins + 1)
    found = []
    for shift in shifts:
        at = np.clip(np.arange(bins) + shift + (1 if slower else 0), 0, bins)
        found.append((not_here + cut[..., at]).min(-1))
    return np.stack(found, -1)


def _trials(hits: Floats, trials: Floats, odds: float, *, more: bool) -> Floats:
    return log_evidence(hits[..., None], trials[..., None], np.array([odds]), more=more)


def mean_ratio(
    counts: tuple[ArrayLike, ArrayLike],
    means: tuple[ArrayLike, ArrayLike],
    squares: tuple[ArrayLike, ArrayLike],
    products: ArrayLike,
    *,
    tuned_at: float,
    alphas: tuple[float, float],
) -> tuple[Floats, Bounds]:
    """Return the ratio of two means over strata, candidate to baseline, and its bounds.

    Arms are compared within each stratum, and strata weigh what their pairs do: a level that moved
    between two strata with other shares moves no ratio.

    Args:
        counts: (..., strata) of baseline and candidate.
        means: (..., strata).
        squares: (..., strata) sums of squared distances from those means.
        products: (..., strata) sums of products of distances; 0 where rows are not paired.
        tuned_at: as `mixture_z`.
        alphas: of the lower and of the upper bound.
    """
    of_base, of_cand = (np.asarray(a, float) for a in counts)
    told = (of_base > 1) & (of_cand > 1)
    of_base, of_cand = np.where(told, of_base, 2.0), np.where(told, of_cand, 2.0)
    pairs = np.where(told, 2 * of_base * of_cand / (of_base + of_cand), 0.0)
    total = pairs.sum(-1)
    weights = pairs / np.where(total > 0, total, 1.0)[..., None]
    base, cand = ((weights * np.asarray(a, float)).sum(-1) for a in means)
    errors = tuple(
        (weights**2 * np.asarray(a, float) / (n - 1) / n).sum(-1)
        for a, n in zip(squares, (of_base, of_cand), strict=True)
    )
    shared = (weights**2 * np.asarray(products, float) / (of_base - 1) / of_base).sum(-1)
    z = tuple(mixture_z(total, tuned_at=tuned_at, alpha=a) for a in alphas)
    with np.errstate(divide="ignore", invalid="ignore"):
        estimate = np.where(base > 0, cand / base, np.nan)
    return estimate, ratio_bounds((base, cand), errors, shared, z)  # type: ignore[arg-type]  # two each
