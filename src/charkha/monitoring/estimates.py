"""Performance before the ground truth comes, estimated; it holds while inputs mean what they meant.

Classes: confidence-based performance estimation (CBPE), which takes calibrated probabilities at their
word: of rows that are 0.8 likely to be yes, eight in ten will be. Numbers: direct loss estimation (DLE),
a learner of how large the error of a row is. Both after NannyML (Białek et al., arXiv 2407.08649).
Probabilities are calibrated by isotonic regression (Zadrozny & Elkan 2002) on the held-out rows, from
which errors are learned too. Neither sees that the same inputs have come to mean something else.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import isotonic_regression

from charkha.errors import DataError, UserError
from charkha.models.predictions import Floats, Predictions
from charkha.models.profiled import PREDICTION
from charkha.models.scores import statistic
from charkha.monitoring.answers import Answered, Labelled, has_probabilities
from charkha.monitoring.losses import SIGMAS
from charkha.monitoring.performance import Figure
from charkha.monitoring.stumps import Learned, learn

LEAST_ROWS = 100  # held out, to calibrate or to learn from
_MOST_ROWS = 5_000  # of a window; more are spread evenly
_DRAWS = 200  # of truths, for the interval
_LOSSES = {"mae": 1, "mse": 2, "rmse": 2}  # the power of the error that is learned
_NOT_KEPT = "the package keeps no held-out rows to learn from: make the version again, charkha run"


@dataclass(frozen=True, kw_only=True)
class Estimator:
    """What was learned from a version's held-out rows."""

    refused: str | None = None  # why nothing can be estimated
    names: tuple[str, ...] = ()  # metrics
    errors: Mapping[str, float] = field(default_factory=dict)  # standard errors of held-out values
    learned: Mapping[int, Learned] = field(default_factory=dict)  # power of the error -> learner
    curves: tuple[tuple[Floats, Floats], ...] = ()  # of each class: probability, calibrated


def make_estimator(
    held_out: Labelled | None, inputs: Sequence[str], figures: Sequence[Figure]
) -> Estimator:
    """Learn from the held-out rows that a package keeps.

    Args:
        held_out: those rows; None where it keeps none.
        inputs: columns to learn from, besides the prediction.
        figures: the metrics that are wanted, as they are on those rows.
    """
    if held_out is None:
        return Estimator(refused=_NOT_KEPT)
    if len(held_out) < LEAST_ROWS:
        return Estimator(
            refused=f"{len(held_out)} held-out rows are too few to learn from: {LEAST_ROWS} at least"
        )
    names = tuple(f.metric for f in figures)
    errors = {
        f.metric: (f.high - f.low) / 2 / SIGMAS
        for f in figures
        if f.low is not None and f.high is not None
    }
    said = held_out.scored.predicted
    if said.classes is not None or said.values.dtype == object:
        if said.probabilities is None:
            return Estimator(refused="the model gives no probabilities, only labels")
        return Estimator(names=names, errors=errors, curves=_curves(held_out))
    known = [name for name in names if name in _LOSSES]
    if not known:
        refused = f"{', '.join(names)} cannot be estimated from errors; mae, mse and rmse can"
        return Estimator(refused=refused)
    away = np.abs(np.asarray(held_out.scored.truth, float) - np.asarray(said.values, float))
    columns = [*inputs, PREDICTION]
    powers = sorted({_LOSSES[name] for name in known})
    learned = {power: learn(held_out.rows, columns, away**power) for power in powers}
    return Estimator(names=tuple(known), errors=errors, learned=learned)


def estimates(estimator: Estimator, answers: Answered) -> tuple[tuple[Figure, ...], str | None]:
    """Return the estimated metrics of a window, or why there are none; truths are not looked at."""
    if estimator.refused:
        return (), estimator.refused
    if not len(answers.said):
        return (), "no row has a prediction"
    if estimator.learned:
        return tuple(_of_numbers(estimator, answers)), None
    if answers.said.probabilities is None:
        some = has_probabilities(answers.rows)
        return (), f"{'some' if some else 'the'} records have no probabilities"
    return _of_classes(estimator, answers.said)


def _of_numbers(estimator: Estimator, answers: Answered) -> list[Figure]:
    found, rows = [], len(answers.said)
    expected = {power: learned.expect(answers.rows) for power, learned in estimator.learned.items()}
    for name in estimator.names:
        power = _LOSSES[name]
        residuals = estimator.learned[power].residuals
        value = float(expected[power].mean())
        reach = SIGMAS * float(residuals.std()) * math.sqrt(1 / len(residuals) + 1 / rows)
        ends = [value, max(value - reach, 0.0), value + reach]
        value, low, high = np.sqrt(ends).tolist() if name == "rmse" else ends
        found.append(Figure(metric=name, value=value, low=low, high=high, rows=rows))
    return found


def _of_classes(estimator: Estimator, said: Predictions) -> tuple[tuple[Figure, ...], str | None]:
    """Take each row as part of a row of each class, as large as that class is probable."""
    classes, shares = said.classes or (), said.probabilities
    if shares is None or len(estimator.curves) != len(classes):
        return (), "the records have other classes than the package"
    rows = len(shares)
    at = np.unique(np.linspace(0, rows - 1, min(rows, _MOST_ROWS)).astype(np.int64))
    likely = _calibrated(estimator.curves, shares[at])
    truth = np.empty(likely.size, dtype=object)
    truth[:] = [label for label in classes for _ in at]
    every = Predictions(
        values=np.concatenate([said.values[at]] * len(classes)),
        probabilities=np.tile(shares[at], (len(classes), 1)),
        classes=classes,
    )
    drawn = _drawn(likely)
    found, problems = [], []
    for name in estimator.names:
        try:
            score = statistic(name, truth, every)
        except (DataError, UserError) as e:
            problems.append(f"{name} cannot be estimated: {e.what}")
            continue
        value = float(score(likely.T.reshape(1, -1))[0])
        scattered = float(np.nanstd(score(drawn))) * math.sqrt(len(at) / rows)
        reach = SIGMAS * math.hypot(scattered, estimator.errors[name])
        found.append(
            Figure(metric=name, value=value, low=value - reach, high=value + reach, rows=rows)
        )
    return tuple(found), "; ".join(problems) or None


def _drawn(likely: Floats) -> Floats:
    """Return truths that are as likely, each as weights of the rows of all classes: (draws, k n)."""
    rng = np.random.default_rng(0)
    ends = np.cumsum(likely, axis=1)[:, :-1]  # (n, k - 1)
    drawn = []
    for _ in range(_DRAWS):
        chosen = (rng.random(len(likely))[:, None] > ends).sum(axis=1)
        weights = np.zeros_like(likely)
        weights[np.arange(len(likely)), chosen] = rng.multinomial(
            len(likely), np.full(len(likely), 1 / len(likely))
        )
        drawn.append(weights.T.ravel())
    return np.stack(drawn)


def _curves(held_out: Labelled) -> tuple[tuple[Floats, Floats], ...]:
    """Return for each class which part of the held-out rows is of it, as its probability rises."""
    said = held_out.scored.predicted
    classes, shares = said.classes or (), said.probabilities
    found = []
    for at, label in enumerate(classes):
        given = shares[:, at] if shares is not None else np.empty(0)
        places, group = np.unique(given, return_inverse=True)
        rows = np.bincount(group).astype(float)
        hits = np.bincount(group, (held_out.scored.truth == label).astype(float))
        fitted = isotonic_regression(hits / rows, weights=rows)
        block = np.repeat(np.arange(len(fitted.blocks) - 1), np.diff(fitted.blocks))
        size, said_so = np.bincount(block, rows)[block], np.bincount(block, rows * places)[block]
        # the model's own word counts for one row, or a step of a few rows would be a certainty
        found.append((places, (fitted.x * size + said_so / size) / (size + 1)))
    return tuple(found)


def _calibrated(curves: Sequence[tuple[Floats, Floats]], shares: Floats) -> Floats:
    columns = [np.interp(shares[:, at], *curve) for at, curve in enumerate(curves)]
    found = np.stack(columns, axis=1)
    total = found.sum(axis=1, keepdims=True)
    even = np.full_like(found, 1 / found.shape[1])
    calibrated: Floats = np.divide(found, total, out=even, where=total > 0)
    return calibrated
