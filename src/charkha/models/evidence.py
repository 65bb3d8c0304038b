"""What the gate judges on: candidate, champion, baseline and training rows, all measured."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from charkha.models.bootstrap import draw, estimate
from charkha.models.gate import Gate
from charkha.models.metrics import METRICS, Metric
from charkha.models.predictions import Floats, Predictions
from charkha.models.scores import Statistic, Truth, statistic
from charkha.models.verdict import Estimate, Evidence

TRAINING_ROWS = 10_000  # a sample of them is enough to see overfitting


@dataclass(frozen=True, kw_only=True)
class Scored:
    """Rows whose truth is known, with what a model said about them."""

    truth: Truth  # (n,)
    predicted: Predictions  # (n,)

    def statistic(self, metric: str) -> Statistic:
        return statistic(metric, self.truth, self.predicted)


def measure(
    rule: Gate, candidate: Scored, champion: Scored | None, train: Scored | None
) -> Evidence:
    """Measure what `rule` needs.

    Args:
        rule: names the metric, the confidence and the bootstrap.
        candidate: on the held-out rows.
        champion: on the same rows in the same order; None while there is none.
        train: the candidate on the rows that it was trained on.

    Raises:
        DataError, UserError: the metric is undefined for these rows; says why.
    """
    metric, rows = METRICS[rule.metric], len(candidate.truth)
    score = candidate.statistic(rule.metric)
    once = np.ones((1, rows))
    value, drawn = float(score(once)[0]), _draw(rule, score, rows)
    gain = _paired(rule, metric, score, champion) if champion else None
    naive = None
    if train:
        said = baseline(train.truth, candidate.predicted, rows)
        naive = Scored(truth=candidate.truth, predicted=said)
    over = _paired(rule, metric, score, naive) if naive else None
    return Evidence(
        candidate=estimate(value, drawn, rule.confidence),
        champion=float(champion.statistic(rule.metric)(once)[0]) if champion else None,
        improvement=gain,
        train=_score(train, rule.metric) if train else None,
        loss_of_fit=_loss_of_fit(rule, metric, train, value, drawn) if train else None,
        baseline=float(naive.statistic(rule.metric)(once)[0]) if naive else None,
        over_baseline=over,
        undefined=int(np.isnan(drawn).sum()),
    )


def baseline(truth: Truth, like: Predictions, rows: int) -> Predictions:
    """Return what one says who knows the training targets and nothing about a row.

    The mean for numbers; the commonest label, and the share of each class as its probability.
    """
    if like.classes is None and like.values.dtype != object:
        return Predictions(values=np.full(rows, np.asarray(truth, dtype=np.float64).mean()))
    labels, counts = np.unique(truth, return_counts=True)
    commonest = np.full(rows, labels[counts.argmax()], dtype=object)
    if like.classes is None:
        return Predictions(values=commonest)
    share = dict(zip(labels.tolist(), (counts / counts.sum()).tolist(), strict=True))
    shares = np.array([share.get(label, 0.0) for label in like.classes])
    return Predictions(
        values=commonest, probabilities=np.tile(shares, (rows, 1)), classes=like.classes
    )


def _paired(rule: Gate, metric: Metric, score: Statistic, other: Scored) -> Estimate:
    """Return the improvement over `other`, both resampled together."""
    reference = other.statistic(rule.metric)
    lower = metric.better == "lower"

    def gain(weights: Floats) -> Floats:  # a difference and no product, which could be -0
        mine, its = score(weights), reference(weights)
        return its - mine if lower else mine - its

    rows = len(other.truth)
    return estimate(float(gain(np.ones((1, rows)))[0]), _draw(rule, gain, rows), rule.confidence)


def _loss_of_fit(
    rule: Gate, metric: Metric, train: Scored, held_out: float, held_out_draws: Floats
) -> Estimate:
    """Return held-out over training error, or training minus held-out score; drawn apart."""
    sample = _sample(train, rule.seed)
    score, rows = sample.statistic(rule.metric), len(sample.truth)
    value = float(score(np.ones((1, rows)))[0])
    draws = draw(score, rows, resamples=rule.resamples, seed=rule.seed + 1)
    if metric.better == "higher":
        return estimate(value - held_out, draws - held_out_draws, rule.confidence)
    if value == 0:
        ratio = float("inf") if held_out else 1.0
        return Estimate(value=ratio, low=ratio, high=ratio)
    # a resample of nothing but rows fitted exactly has no ratio; it counts as a huge one
    ratios = held_out_draws / np.maximum(draws, value * 1e-9)
    return estimate(held_out / value, ratios, rule.confidence)


def _sample(scored: Scored, seed: int) -> Scored:
    rows = len(scored.truth)
    if rows <= TRAINING_ROWS:
        return scored
    kept = np.sort(np.random.default_rng(seed).choice(rows, TRAINING_ROWS, replace=False))
    said = scored.predicted
    return Scored(
        truth=scored.truth[kept],
        predicted=Predictions(
            values=said.values[kept],
            probabilities=None if said.probabilities is None else said.probabilities[kept],
            classes=said.classes,
        ),
    )


def _score(scored: Scored, metric: str) -> float:
    return float(scored.statistic(metric)(np.ones((1, len(scored.truth))))[0])


def _draw(rule: Gate, score: Statistic, rows: int) -> Floats:
    return draw(score, rows, resamples=rule.resamples, seed=rule.seed)
