"""The arithmetic of the metrics, for one weighting of the rows or for thousands at once.

A bootstrap resample is a row of weights: how often each held-out row was drawn. So each function
takes a weight matrix (B, n) and returns B scores, which costs one matrix product instead of B
passes. With weights of one they agree with scikit-learn, as they do with its `sample_weight`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charkha.errors import DataError, UserError
from charkha.models.metrics import METRICS, metric
from charkha.models.predictions import Floats, Predictions

Truth = NDArray[Any]  # (n,)
Statistic = Callable[[Floats], Floats]  # weights (B, n) -> scores (B,)


def score(name: str, truth: Truth, predicted: Predictions) -> float:
    """Return the metric over all rows.

    Raises:
        UserError: an unknown metric, or one that needs probabilities where there are none.
        DataError: the truth or the predictions cannot be scored; says which row and why.
    """
    return float(statistic(name, truth, predicted)(np.ones((1, len(truth))))[0])


def statistic(name: str, truth: Truth, predicted: Predictions) -> Statistic:
    """Return the metric as a function of row weights; NaN where it is undefined for a weighting.

    Raises:
        UserError, DataError: as `score`.
    """
    chosen = metric(name)
    _check_lengths(truth, predicted)
    if chosen.task == "regression":
        return _REGRESSION[name](
            _numbers(truth, "the target"), _numbers(predicted.values, "the prediction")
        )
    _check_labels(truth)
    if chosen.needs == "probabilities":
        return _PROBABILISTIC[name](truth, *_probabilities(name, truth, predicted))
    base, _, average = name.partition("_")
    return _labelled(base, average, truth, predicted)


def scores(names: Sequence[str], truth: Truth, predicted: Predictions) -> dict[str, float]:
    """Return every named metric, without those that need probabilities where there are none."""
    usable = [
        n for n in names if METRICS[n].needs == "values" or predicted.probabilities is not None
    ]
    return {name: score(name, truth, predicted) for name in usable}


def _mean(values: Floats) -> Statistic:
    return lambda weights: (weights @ values) / weights.sum(axis=1)


def _mae(truth: Floats, predicted: Floats) -> Statistic:
    return _mean(np.abs(truth - predicted))


def _mse(truth: Floats, predicted: Floats) -> Statistic:
    return _mean((truth - predicted) ** 2)


def _rmse(truth: Floats, predicted: Floats) -> Statistic:
    mse = _mse(truth, predicted)
    return lambda weights: np.sqrt(mse(weights))


def _r2(truth: Floats, predicted: Floats) -> Statistic:
    if np.ptp(truth) == 0:
        raise DataError(
            f"r2 is undefined: the target is {truth[0]:g} in all {len(truth)} rows",
            fix="hold out rows that differ, or measure rmse",
        )
    mse = _mse(truth, predicted)
    centred = truth - truth.mean()  # first, so that the variance below loses no digits
    mean, square = _mean(centred), _mean(centred**2)

    def r2(weights: Floats) -> Floats:
        spread = square(weights) - mean(weights) ** 2
        return 1 - _divide(mse(weights), spread, undefined=np.nan)

    return r2


def _labelled(base: str, average: str, truth: Truth, predicted: Predictions) -> Statistic:
    if base == "accuracy":
        return _mean((truth == predicted.values).astype(float))
    labels = sorted({*truth.tolist(), *predicted.values.tolist()})
    known = labels if predicted.classes is None else sorted({*labels, *predicted.classes})
    if not average and len(known) == 2:
        labels, average = [known[1]], "macro"
    actual = np.stack([truth == label for label in labels], axis=1).astype(float)  # (n, k)
    said = np.stack([predicted.values == label for label in labels], axis=1).astype(float)

    def averaged(weights: Floats) -> Floats:
        hits = weights @ (actual * said)  # (B, k)
        there, claimed = weights @ actual, weights @ said
        per_class = {
            "precision": lambda: _divide(hits, claimed, undefined=0.0),
            "recall": lambda: _divide(hits, there, undefined=0.0),
            "f1": lambda: _divide(2 * hits, there + claimed, undefined=0.0),
        }[base]()
        shares = there if average == "weighted" else np.ones_like(there)
        return _divide((per_class * shares).sum(axis=1), shares.sum(axis=1), undefined=0.0)

    return averaged


def _log_loss(truth: Truth, probabilities: Floats, classes: tuple[object, ...]) -> Statistic:
    eps = np.finfo(
        probabilities.dtype
    ).eps  # a certain and wrong answer costs 36 nats, not infinity
    column = np.array([classes.index(label) for label in truth.tolist()])
    given = probabilities[np.arange(len(truth)), column]
    return _mean(-np.log(np.clip(given, eps, 1 - eps)))


def _auc(truth: Truth, probabilities: Floats, classes: tuple[object, ...]) -> Statistic:
    absent = [label for label in classes if not (truth == label).any()]
    if absent:
        raise DataError(
            f"auc is undefined: none of the {len(truth)} rows is of class {absent[0]!r}",
            fix="hold out rows of every class, or measure log_loss",
        )
    if len(classes) == 2:
        return _area(truth == classes[1], probabilities[:, 1])
    areas = [_area(truth == label, probabilities[:, i]) for i, label in enumerate(classes)]
    return lambda weights: np.mean([area(weights) for area in areas], axis=0)


def _area(positive: NDArray[np.bool_], ranks: Floats) -> Statistic:
    """Return the share of (positive, negative) pairs in the right order; a tie counts half."""
    order = np.argsort(ranks, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(ranks[order]) != 0])  # of groups of equal rank
    is_positive = positive[order].astype(float)

    def area(weights: Floats) -> Floats:
        sorted_weights = weights[:, order]
        up = np.add.reduceat(sorted_weights * is_positive, starts, axis=1)  # (B, groups)
        down = np.add.reduceat(sorted_weights * (1 - is_positive), starts, axis=1)
        below = np.cumsum(down, axis=1) - down / 2
        pairs = up.sum(axis=1) * down.sum(axis=1)
        return _divide((up * below).sum(axis=1), pairs, undefined=np.nan)

    return area


_REGRESSION = {"mae": _mae, "mse": _mse, "rmse": _rmse, "r2": _r2}
_PROBABILISTIC = {"auc": _auc, "log_loss": _log_loss}


def _divide(above: Floats, below: Floats, *, undefined: float) -> Floats:
    return np.divide(above, below, out=np.full_like(above, undefined), where=below > 0)


def _check_lengths(truth: Truth, predicted: Predictions) -> None:
    if len(truth) == 0:
        raise DataError("there are no rows to score", fix="hold out at least one row")
    if len(truth) != len(predicted):
        raise DataError(f"{len(predicted)} predictions for {len(truth)} rows")


def _numbers(values: Truth, what: str) -> Floats:
    try:
        numbers = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as e:
        raise DataError(f"{what} is not a number: {e}", fix='set task = "classification"') from e
    bad = np.flatnonzero(~np.isfinite(numbers))
    if len(bad):
        raise DataError(
            f"{what} is {numbers[bad[0]]:g} in row {bad[0] + 1} ({len(bad)} of {len(numbers)} rows)",
            fix="drop those rows before you score, or find out why they are there",
        )
    return numbers


def _check_labels(truth: Truth) -> None:
    bad = [i for i, label in enumerate(truth.tolist()) if label is None or label != label]
    if bad:
        raise DataError(
            f"the target is missing in row {bad[0] + 1} ({len(bad)} of {len(truth)} rows)",
            fix="drop those rows before you score",
        )


def _probabilities(
    name: str, truth: Truth, predicted: Predictions
) -> tuple[Floats, tuple[object, ...]]:
    if predicted.probabilities is None or predicted.classes is None:
        raise UserError(
            f"{name} needs probabilities, and this model predicts labels only",
            fix="use a model with predict_proba, or measure accuracy or f1",
        )
    known = set(predicted.classes)
    bad = [i for i, label in enumerate(truth.tolist()) if label not in known]
    if bad:
        raise DataError(
            f"row {bad[0] + 1} is of class {truth[bad[0]]!r}, which the model has never seen",
            fix=f"train on rows of that class; the model knows: {', '.join(map(repr, predicted.classes))}",
        )
    return predicted.probabilities, predicted.classes
