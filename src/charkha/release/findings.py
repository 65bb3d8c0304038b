"""One comparison for each metric: evidence in, a finding with its interval out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import log

import numpy as np
from numpy.typing import NDArray

from charkha.release.evidence import BIN, MOST_BINS, Arm, Pairs, Sample, Window, latency_of
from charkha.release.rules import CAPPED, MEAN, SHOWN_AFTER, Finding, Metric, Rules
from charkha.release.sequences import (
    Floats,
    band_radius,
    mean_ratio,
    quantile_evidence,
    rate_bounds,
    rate_ratio_low,
)

_REACH = 120  # bins: ten times as slow, or as fast
_STRIDE = 15  # of a first look, before the exact one


def findings(windows: Sequence[Window], rules: Rules) -> Iterator[Finding]:
    """Yield what every metric shows that has a part of alpha."""
    if rules.share("errors"):
        yield errors(windows, rules)
    for quantile in rules.quantiles if rules.share("latency") else ():
        yield latency(windows, quantile, rules)
    if rules.share("predictions"):
        yield predictions(windows, rules)
    if rules.share("loss"):
        yield from losses(windows, rules)


def errors(windows: Sequence[Window], rules: Rules) -> Finding:
    """Compare error rates: the difference is in parts of all requests."""
    seen = [w for w in windows if w.baseline.requests and w.candidate.requests]
    if not seen:
        return _nothing("errors", "errors", rules)
    failed, of = (_both(seen, name) for name in ("errors", "requests"))
    pairs = 2 * of[0] * of[1] / (of[0] + of[1])
    weights = pairs / pairs.sum()
    base, cand = (float((weights * f / n).sum()) for f, n in zip(failed, of, strict=True))
    alpha = rules.share("errors")
    ratio = float(rate_ratio_low(failed, of, alpha=alpha))
    # Each window can show it by itself; those of all together would mix their levels.
    own = rules.alpha / 2 / rules.stages
    highs = (
        rate_bounds(failed[1], of[1], alpha=own).high - rate_bounds(failed[0], of[0], alpha=own).low
    )
    return _finding(
        "errors",
        "errors",
        (base, cand),
        cand - base,
        ((base + cand) * (ratio - 1) / (ratio + 1), float(highs.min())),
        rules,
        alpha=alpha,
        counts=(int(of[0].sum()), int(of[1].sum())),
    )


def latency(windows: Sequence[Window], quantile: float, rules: Rules) -> Finding:
    """Compare a quantile of the latencies; a shadow's are those of nobody who waits."""
    name = f"latency p{quantile * 100:g}"
    seen = [w for w in windows if not w.paired and w.baseline.latency and w.candidate.latency]
    if not seen:
        return _nothing(name, "latency", rules)
    alpha = rules.share("latency") / len(rules.quantiles)
    pairs = [(_histogram(w.baseline), _histogram(w.candidate)) for w in seen]
    counts = [(int(base.sum()), int(cand.sum())) for base, cand in pairs]
    values = [[_quantile(histogram, quantile) for histogram in pair] for pair in pairs]
    weights = [base * cand / (base + cand) for base, cand in counts]
    logs = np.average(np.log(values), axis=0, weights=weights)
    return _finding(
        name,
        "latency",
        (float(np.exp(logs[0])), float(np.exp(logs[1]))),
        float(np.exp(logs[1] - logs[0]) - 1),
        (
            _limit(pairs, quantile, slower=True, alpha=alpha),
            _limit(pairs, quantile, slower=False, alpha=rules.alpha),
        ),
        rules,
        alpha=alpha,
        counts=_counts(counts),
    )


def _limit(
    pairs: Sequence[tuple[Floats, Floats]], quantile: float, *, slower: bool, alpha: float
) -> float | None:
    """Return the largest (smallest) part by which the candidate is surely slower (faster)."""
    sign = 1 if slower else -1

    def largest(shifts: NDArray[np.int64]) -> int | None:
        logs = sum(quantile_evidence(pair, quantile, shifts, slower=slower) for pair in pairs)
        held = shifts[logs >= -log(alpha)]
        return int(sign * (sign * held).max()) if len(held) else None

    # What is sure of one ratio is sure of all before it, so a coarse look finds where to look.
    coarse = largest(np.arange(-_REACH, _REACH + 1, _STRIDE))
    start = -sign * (_REACH + _STRIDE) if coarse is None else coarse
    fine = largest(start + sign * np.arange(_STRIDE))
    return None if fine is None else float(BIN**fine - 1)


def predictions(windows: Sequence[Window], rules: Rules) -> Finding:
    """Compare what was predicted: the largest gap between two distribution functions.

    Another version may well predict otherwise, so this one is only worse where the gap itself is
    surely larger than the margin. The window that shows most speaks; alpha is split over all.
    """
    alpha = rules.share("predictions")
    best: tuple[float, float, float] | None = None
    total = []
    for window in windows:
        base, cand = window.baseline.predictions, window.candidate.predictions
        if not sum(base) or not sum(cand):
            continue
        counts = (sum(base), sum(cand))
        total.append(counts)
        gap = float(np.abs(np.cumsum(base) / counts[0] - np.cumsum(cand) / counts[1]).max())
        reach = [
            float(
                sum(
                    band_radius(n, starts_at=rules.requests, alpha=a / 2 / rules.stages)
                    for n in counts
                )
            )
            for a in (alpha, rules.alpha)
        ]
        if best is None or gap - reach[0] > best[1]:
            best = (gap, gap - reach[0], gap + reach[1])
    if best is None:
        return _nothing("predictions", "predictions", rules)
    gap, low, high = best
    margin = rules.margins["predictions"]
    return Finding(
        name="predictions",
        metric="predictions",
        baseline=None,
        candidate=None,
        difference=gap,
        low=max(low, 0.0),
        high=min(high, 1.0),
        margin=margin,
        alpha=alpha,
        counts=_counts(total),
        worse=low > margin,
        fine=high < margin,
    )


def losses(windows: Sequence[Window], rules: Rules) -> Iterator[Finding]:
    """Compare losses: their mean, and beside it that of the losses with a cap.

    A few rows make most of a mean's noise. Capped losses tell two versions apart with half the rows; so
    that a cap decides nothing by itself, the mean has to be worse by the margin as well.
    """
    share = rules.share("loss")
    mean = _loss("loss", windows, share * MEAN, rules)
    capped = _loss("loss, capped", windows, share * CAPPED, rules)
    yield mean
    matters = mean.difference is not None and mean.difference > mean.margin
    low = capped.low if capped.low is not None else -1.0
    yield replace(capped, worse=matters and low > 0, fine=False)


def _loss(name: str, windows: Sequence[Window], alpha: float, rules: Rules) -> Finding:
    strata = [_stratum(window, capped=name != "loss") for window in windows]
    strata = [(b, c, p) for b, c, p in strata if b.count > 1 and c.count > 1]
    counts = _counts([(b.count, c.count) for b, c, _ in strata])
    if not strata or min(counts) < rules.labels:
        return _nothing(name, "loss", rules, counts)
    base, cand = [s[0] for s in strata], [s[1] for s in strata]
    estimate, bounds = mean_ratio(
        ([s.count for s in base], [s.count for s in cand]),
        ([s.mean for s in base], [s.mean for s in cand]),
        ([s.squares for s in base], [s.squares for s in cand]),
        [p for _, _, p in strata],
        tuned_at=rules.pairs,
        alphas=(alpha, rules.alpha),
    )
    if not np.isfinite(estimate):
        return _nothing(name, "loss", rules, counts)
    found = _finding(
        name,
        "loss",
        (_mean(base), _mean(cand)),
        float(estimate) - 1,
        (_finite(bounds.low - 1), _finite(bounds.high - 1)),
        rules,
        alpha=alpha,
        counts=counts,
    )
    enough = min(counts) >= SHOWN_AFTER * rules.labels
    return replace(found, fine=found.fine and enough)


def _stratum(window: Window, *, capped: bool) -> tuple[Sample, Sample, float]:
    """Return the losses of both arms, and the sum of products where they are of the same requests."""
    pairs: Pairs = window.capped_pairs if capped else window.pairs
    if pairs.baseline.count:
        return pairs.baseline, pairs.candidate, pairs.products
    arms = (window.baseline, window.candidate)
    base, cand = (arm.capped if capped else arm.loss for arm in arms)
    return base, cand, 0.0


def _finding(
    name: str,
    metric: Metric,
    values: tuple[float, float],
    difference: float,
    bounds: tuple[float | None, float | None],
    rules: Rules,
    *,
    alpha: float,
    counts: tuple[int, int],
) -> Finding:
    low, high = bounds
    margin = rules.margins[metric]
    return Finding(
        name=name,
        metric=metric,
        baseline=values[0],
        candidate=values[1],
        difference=difference,
        low=low,
        high=high,
        margin=margin,
        alpha=alpha,
        counts=counts,
        worse=low is not None and low > 0 and difference > margin,
        fine=high is not None and high < margin,
    )


def _nothing(name: str, metric: Metric, rules: Rules, counts: tuple[int, int] = (0, 0)) -> Finding:
    return Finding(
        name=name,
        metric=metric,
        baseline=None,
        candidate=None,
        difference=None,
        low=None,
        high=None,
        margin=rules.margins[metric],
        alpha=0.0,
        counts=counts,
        worse=False,
        fine=False,
    )


def _both(windows: Sequence[Window], name: str) -> tuple[Floats, Floats]:
    """Return a count of both arms, (windows,) each."""
    base, cand = (
        np.array([getattr(arm, name) for arm in arms], float)
        for arms in ([w.baseline for w in windows], [w.candidate for w in windows])
    )
    return base, cand


def _histogram(arm: Arm) -> Floats:
    counts = np.zeros(MOST_BINS)
    for at, count in arm.latency.items():
        counts[at] = count
    return counts


def _quantile(histogram: Floats, quantile: float) -> float:
    total = np.cumsum(histogram)
    return latency_of(int(np.searchsorted(total, quantile * total[-1])))


def _mean(samples: Sequence[Sample]) -> float:
    whole = Sample()
    for sample in samples:
        whole += sample
    return whole.mean


def _counts(pairs: Sequence[tuple[int, int]]) -> tuple[int, int]:
    return sum(b for b, _ in pairs), sum(c for _, c in pairs)


def _finite(value: Floats) -> float | None:
    return float(value) if np.isfinite(value) else None
