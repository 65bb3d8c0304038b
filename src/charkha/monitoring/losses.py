"""A window's metrics held against those of the held-out rows: how much worse, and is it chance.

The held-out rows are a sample too. If nothing has changed, a row of the window might as well have been
held out, so p comes from exchanging rows between both (a permutation test of a studentised difference:
Janssen 1997, Chung & Romano 2013): right for small windows and heavy tails, and still right in the
limit where what is asked has changed and the metric has not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr

from charkha.errors import DataError, UserError
from charkha.models.bootstrap import draw, estimate
from charkha.models.evidence import Scored
from charkha.models.influence import influence
from charkha.models.metrics import METRICS, Metric
from charkha.models.predictions import Floats
from charkha.models.verdict import Estimate, show
from charkha.monitoring.answers import together
from charkha.monitoring.correction import holm
from charkha.monitoring.performance import MetricVerdict
from charkha.project import MonitoringSettings

CONFIDENCE, SIGMAS = 0.95, 1.96  # of every interval that is shown
_RESAMPLES, _RESAMPLED = 1_000, 5_000  # and the rows up to which an interval is resampled
_EXCHANGED = 30_000  # rows of both sides up to which they are exchanged
_ENOUGH = 60  # exchanges that are as large: at alpha it would be 20
_CELLS = 2_000_000  # random numbers at once
_NOTABLE = 0.01  # of a share such as accuracy: one row in a hundred
_ROUNDING = 1e-6  # of the target's deviation: below it, a loss is the rounding of a sum
_SHARES = ("accuracy", "precision", "recall", "f1", "auc")


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """What is known of a version's held-out rows."""

    figures: Mapping[str, float]  # metric -> its value over all of them
    rows: int
    kept: Scored | None  # those that the package has; None: it keeps none


def interval(name: str, scored: Scored) -> Estimate:
    """Return a metric over rows with its interval.

    Percentiles of 1,000 resamples; the influences' deviation where there are many rows.

    Raises:
        DataError, UserError: the metric is undefined for these rows; says why.
    """
    score, rows = scored.statistic(name), len(scored.truth)
    value = float(score(np.ones((1, rows)))[0])
    if rows <= _RESAMPLED:
        drawn = draw(score, rows, resamples=_RESAMPLES, seed=0)
        if np.isfinite(drawn).mean() > 0.5:
            return estimate(value, drawn, CONFIDENCE)
    reach = SIGMAS * float(_influence(name, scored).std()) / math.sqrt(rows)
    return Estimate(value=value, low=value - reach, high=value + reach)


def compare(
    names: Sequence[str], window: Scored, held_out: HeldOut, settings: MonitoringSettings
) -> tuple[tuple[MetricVerdict, ...], tuple[str, ...]]:
    """Return the verdict on each metric, and why some cannot be measured.

    A metric is lower if it is so by more than chance, corrected for the other metrics (Holm), and by
    so much that it matters.
    """
    measured: dict[str, tuple[Estimate, float, float]] = {}
    notices = []
    for name in names:
        try:
            now = interval(name, window)
            then = held_out_value(name, held_out)
            alpha = settings.false_alarms / len(names)
            measured[name] = (now, then, chance(name, window, held_out, alpha=alpha))
        except (DataError, UserError) as e:
            notices.append(f"{name} cannot be measured: {e.what}")
    adjusted = holm({name: p for name, (_, _, p) in measured.items()})
    floor = _floor(window)
    verdicts = tuple(
        _verdict(METRICS[name], now, then, adjusted[name][0], floor, settings)
        for name, (now, then, _) in measured.items()
    )
    return verdicts, tuple(notices)


def held_out_value(name: str, held_out: HeldOut) -> float:
    """Return a metric over all held-out rows, or over those that are kept.

    Raises:
        DataError, UserError: it is neither kept nor defined.
    """
    if name in held_out.figures:
        return held_out.figures[name]
    if held_out.kept is None:
        raise DataError("the package does not say what it was on the held-out rows")
    return float(held_out.kept.statistic(name)(np.ones((1, len(held_out.kept.truth))))[0])


def chance(name: str, window: Scored, held_out: HeldOut, *, alpha: float) -> float:
    """Return how often chance alone makes the window as much worse (one-sided).

    Without kept rows the held-out ones are taken to scatter as the window's do, as they would if
    nothing had changed.

    Raises:
        DataError, UserError: the metric is undefined for these rows.
    """
    count = len(window.truth)
    if held_out.kept is not None:
        losses = _influence(name, together(window, held_out.kept))
        return exchanged(losses[:count], losses[count:], alpha=alpha)
    value = float(window.statistic(name)(np.ones((1, count)))[0])
    worse = -METRICS[name].improvement(value, held_out_value(name, held_out))
    spread = float(_influence(name, window).std(ddof=1))
    error = spread * math.sqrt(1 / count + 1 / max(held_out.rows, 1))
    return float(stdtr(count - 1, -worse / error)) if error else float(worse <= 0)


def exchanged(window: Floats, reference: Floats, *, alpha: float) -> float:
    """Return the one-sided p of a greater mean in the window.

    Rows are exchanged only where the t distribution (Welch 1947) says that it is close enough to
    `alpha` to matter, and there are not so many that the t distribution is right by itself.
    """
    pooled, count = np.concatenate([window, reference]), len(window)
    total = len(pooled)
    sums = np.array([window.sum(), (window**2).sum()])
    both = np.array([pooled.sum(), (pooled**2).sum()])
    seen = float(_studentised(sums[None], both, count, total)[0])
    p = float(stdtr(min(count, total - count) - 1, -seen))
    if total > _EXCHANGED or p > 10 * alpha:
        return p
    draws = int(min(max(2_000, 20 / alpha), 20_000))
    hits, done = _hits(pooled, count, both, seen, draws)
    return (hits + 1) / (done + 1) if hits else min(p, 1 / (done + 1))


def _hits(pooled: Floats, count: int, both: Floats, seen: float, draws: int) -> tuple[int, int]:
    """Return in how many exchanges of rows the statistic is as large, and of how many.

    Fewer than `draws` where it is soon plain that it is no rare thing.
    """
    chosen, total = min(count, len(pooled) - count), len(pooled)
    values = np.stack([pooled, pooled**2], axis=1)
    rng, hits, done = np.random.default_rng(0), 0, 0
    while done < draws and hits < _ENOUGH:
        size = min(max(1, _CELLS // total), draws - done)
        order = rng.random((size, total), dtype=np.float32).argpartition(chosen - 1, axis=1)
        sums = values[order[:, :chosen]].sum(axis=1)  # (size, 2)
        if chosen != count:
            sums = both - sums
        drawn = _studentised(sums, both, count, total)
        hits += int((drawn >= seen - 1e-9 * abs(seen)).sum())
        done += size
    return hits, done


def _studentised(sums: Floats, both: Floats, count: int, total: int) -> Floats:
    """Return the difference of means over its standard error, of sums and sums of squares (d, 2)."""
    rest = total - count
    inside, outside = sums / count, (both - sums) / rest
    error = np.zeros(len(sums))
    for means, rows in ((inside, count), (outside, rest)):
        error += np.maximum(means[:, 1] - means[:, 0] ** 2, 0) / max(rows - 1, 1)
    difference: Floats = inside[:, 0] - outside[:, 0]
    return np.divide(difference, np.sqrt(error), out=np.zeros(len(sums)), where=error > 1e-300)


def _influence(name: str, scored: Scored) -> Floats:
    """Return how much each row makes the metric worse."""
    found = influence(name, scored.truth, scored.predicted)
    return found if METRICS[name].better == "lower" else -found


def _floor(scored: Scored) -> float:
    """Return the deviation of the target, of which a millionth is no loss; 0 for labels."""
    return 0.0 if scored.truth.dtype == object else float(scored.truth.std())


def _verdict(
    metric: Metric,
    now: Estimate,
    then: float,
    p: float,
    spread: float,
    settings: MonitoringSettings,
) -> MetricVerdict:
    worse = -metric.improvement(now.value, then)
    loss = then if metric.better == "lower" else 1 - then
    rounding = {"target": _ROUNDING * spread, "target²": (_ROUNDING * spread) ** 2}
    floor = _NOTABLE if metric.name.startswith(_SHARES) else rounding.get(metric.unit, 0.0)
    significant = p <= settings.false_alarms
    matters = worse > 0 and worse >= max(settings.smallest_loss * loss, floor)
    share = worse / loss if loss > 0 else None
    return MetricVerdict(
        metric=metric.name,
        value=now.value,
        low=now.low,
        high=now.high,
        held_out=then,
        worse_by=worse,
        share=share,
        p=p,
        lower=significant and matters,
        because=_because(metric, now, then, worse, share, p, significant, matters),
    )


def _because(
    metric: Metric,
    now: Estimate,
    then: float,
    worse: float,
    share: float | None,
    p: float,
    significant: bool,
    matters: bool,
) -> str:
    subject = (
        f"{metric.name} {show(now.value)} ({show(now.low)} to {show(now.high)}) against "
        f"{show(then)} held out"
    )
    if worse <= 0:
        return f"{subject}: no worse"
    size = f"{share:.0%} worse" if share is not None and metric.better == "lower" else ""
    size = size or f"worse by {show(worse)}"
    if not significant:
        return f"{subject}: {size}, which chance explains (p = {p:.2g})"
    if not matters:
        return f"{subject}: {size}, more than chance (p = {p:.2g}) and too little to matter"
    return f"{subject}: {size} (p = {p:.2g})"
