"""How much each row moves a metric, which says how sure the metric is without resampling.

The influence function (Hampel 1974): the change of the metric, times the number of rows, as a row gets a
little more weight. Its mean is 0, and the variance of a metric over n rows is about that of the
influences over n. Of auc it is the placement value (DeLong, DeLong & Clarke-Pearson 1988).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from charkha.models.predictions import Floats, Predictions
from charkha.models.scores import Truth, statistic


def influence(name: str, truth: Truth, predicted: Predictions) -> Floats:
    """Return how much each row moves the metric: (n,), positive where it makes it greater.

    Raises:
        UserError, DataError: as `charkha.models.scores.score`.
    """
    value = float(statistic(name, truth, predicted)(np.ones((1, len(truth))))[0])
    if name in _OF_NUMBERS:
        return _OF_NUMBERS[name](
            np.asarray(truth, np.float64), np.asarray(predicted.values, np.float64), value
        )
    if name == "auc":
        return _auc(truth, predicted)
    if name == "log_loss":
        return _log_loss(truth, predicted) - value
    base, _, average = name.partition("_")
    if base == "accuracy":
        right: Floats = (truth == predicted.values).astype(np.float64)
        return right - value
    return _by_class(base, average, truth, predicted)


def _rmse(truth: Floats, predicted: Floats, value: float) -> Floats:
    squares = (truth - predicted) ** 2
    moved: Floats = (squares - value**2) / (2 * value) if value else np.zeros_like(squares)
    return moved


def _r2(truth: Floats, predicted: Floats, value: float) -> Floats:
    squares, away = (truth - predicted) ** 2, (truth - truth.mean()) ** 2
    spread = away.mean()
    moved: Floats = -(squares - squares.mean() - (1 - value) * (away - spread)) / spread
    return moved


_OF_NUMBERS: dict[str, Callable[[Floats, Floats, float], Floats]] = {
    "mae": lambda truth, predicted, value: np.abs(truth - predicted) - value,
    "mse": lambda truth, predicted, value: (truth - predicted) ** 2 - value,
    "rmse": _rmse,
    "r2": _r2,
}


def _log_loss(truth: Truth, predicted: Predictions) -> Floats:
    shares, classes = predicted.probabilities, predicted.classes
    if shares is None or classes is None:
        raise TypeError("log_loss was asked of labels")
    eps = np.finfo(shares.dtype).eps
    column = np.array([classes.index(label) for label in truth.tolist()])
    given: Floats = shares[np.arange(len(truth)), column]
    return -np.log(np.clip(given, eps, 1 - eps))


def _auc(truth: Truth, predicted: Predictions) -> Floats:
    shares, classes = predicted.probabilities, predicted.classes
    if shares is None or classes is None:
        raise TypeError("auc was asked of labels")
    if len(classes) == 2:
        return _placements(truth == classes[1], shares[:, 1])
    each = [_placements(truth == label, shares[:, at]) for at, label in enumerate(classes)]
    mean: Floats = np.mean(each, axis=0)
    return mean


def _placements(positive: NDArray[np.bool_], ranks: Floats) -> Floats:
    """Return for each row by how much it is better placed than the average one of its side."""
    _, group = np.unique(ranks, return_inverse=True)
    up = np.bincount(group, positive.astype(float))
    down = np.bincount(group, (~positive).astype(float))
    below = (np.cumsum(down) - down / 2) / down.sum()  # part of the negatives that lie below
    above = 1 - (np.cumsum(up) - up / 2) / up.sum()  # part of the positives that lie above
    area = float((up * below).sum() / up.sum())
    placed: Floats = np.where(positive, below[group] - area, above[group] - area)
    weighed: Floats = placed / np.where(positive, positive.mean(), 1 - positive.mean())
    return weighed


def _by_class(base: str, average: str, truth: Truth, predicted: Predictions) -> Floats:
    """Return the influences on precision, recall or f1, each a ratio of means over the rows."""
    labels = sorted({*truth.tolist(), *predicted.values.tolist()})
    known = labels if predicted.classes is None else sorted({*labels, *predicted.classes})
    if not average and len(known) == 2:
        labels = [known[1]]
    total = np.zeros(len(truth))
    for label in labels:
        there = (truth == label).astype(float)
        said = (predicted.values == label).astype(float)
        hits = there * said
        above, below = {
            "precision": (hits, said),
            "recall": (hits, there),
            "f1": (2 * hits, there + said),
        }[base]
        if not below.any():
            continue
        ratio = above.mean() / below.mean()
        each = (above - ratio * below) / below.mean()
        if average == "weighted":
            total += there.mean() * each + (there - there.mean()) * ratio
        else:
            total += each / len(labels)
    return total
