"""What a card tells beyond scores: which columns matter, and whether more rows would help.

Permutation importance: Breiman, Random Forests (2001), section 10; Fisher, Rudin & Dominici (2019).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import clone

from charkha.errors import CharkhaError
from charkha.models.flavours.port import Classes, Flavour
from charkha.models.metrics import METRICS, Task
from charkha.models.predictions import Floats, Predictions
from charkha.models.scores import Truth, score, statistic

IMPORTANCE_ROWS = 200  # of the held-out rows, shuffled REPEATS times for each column
REPEATS = 3
FRACTIONS = (0.1, 0.3, 0.6)  # of the training rows: together the cost of about one more fit
CHEAP_CELLS = 250_000  # training rows x columns up to which that is done unasked
_NOTHING = 1e-9  # a share of the score: the rounding of a sum
_AT_ONCE = 20_000  # rows in one call of the model


@dataclass(frozen=True, kw_only=True)
class Importance:
    """How much worse the metric gets when a column's values are shuffled."""

    metric: str
    rows: int
    columns: list[tuple[str, float]]  # the most important first; in the metric's unit


@dataclass(frozen=True, kw_only=True)
class LearningCurve:
    """The metric for models fitted on more and more rows."""

    metric: str
    points: list[tuple[int, float, float]]  # rows, score on them, score on the held-out rows


def measure_by(task: Task, predicted: Predictions) -> str:
    """Return the metric of the diagnostics: rmse, or log_loss where there are probabilities."""
    if task == "regression":
        return "rmse"
    return "log_loss" if predicted.probabilities is not None else "accuracy"


def importance(
    ask: Callable[[pd.DataFrame], Predictions], rows: pd.DataFrame, truth: Truth, metric: str
) -> Importance:
    """Shuffle each column of a sample of the held-out rows and see what it costs.

    Args:
        ask: the model.
        rows: conformed, held out.
        truth: their targets.
        metric: what is measured.
    """
    rng = np.random.default_rng(0)
    kept = np.sort(rng.permutation(len(rows))[:IMPORTANCE_ROWS])
    sample, actual = rows.iloc[kept].reset_index(drop=True), truth[kept]
    whole = score(metric, actual, ask(sample))
    orders = [rng.permutation(len(sample)) for _ in range(REPEATS)]
    columns = list(rows.columns)
    step = max(1, _AT_ONCE // (len(sample) * REPEATS))
    costs: dict[str, float] = {}
    for start in range(0, len(columns), step):
        names = columns[start : start + step]
        shuffled = [_shuffled(sample, name, order) for name in names for order in orders]
        said = ask(pd.concat(shuffled, ignore_index=True))
        worse = _scores(metric, actual, said, len(shuffled))
        gaps = [-METRICS[metric].improvement(w, whole) for w in worse]
        for i, name in enumerate(names):
            cost = float(np.mean(gaps[i * REPEATS : (i + 1) * REPEATS]))
            costs[name] = cost if abs(cost) > _NOTHING * abs(whole) else 0.0
    ranked = sorted(costs.items(), key=lambda item: (-item[1], item[0]))
    return Importance(metric=metric, rows=len(sample), columns=ranked)


def learning_curve(
    model: Any,
    flavour: Flavour,
    classes: Classes | None,
    train: tuple[pd.DataFrame, Truth],
    test: tuple[pd.DataFrame, Truth],
    metric: str,
) -> LearningCurve | None:
    """Fit copies of `model`, an estimator, on parts of the training rows; None if none could be.

    Cost: about one more fit. What has no seed gets one, so that the curve is the same each time.
    """
    rows, truth = train
    order = np.random.default_rng(0).permutation(len(rows))
    points = []
    for fraction in FRACTIONS:
        kept = np.sort(order[: int(len(rows) * fraction)])
        part = (rows.iloc[kept], truth[kept])
        scored = _fit_and_score(model, flavour, classes, part, test, metric)
        if scored is not None:
            points.append((len(kept), *scored))
    if not points:
        return None
    own = [score(metric, t, flavour.predict(model, r, classes)) for r, t in (train, test)]
    return LearningCurve(metric=metric, points=[*points, (len(rows), own[0], own[1])])


def _fit_and_score(
    model: Any,
    flavour: Flavour,
    classes: Classes | None,
    part: tuple[pd.DataFrame, Truth],
    test: tuple[pd.DataFrame, Truth],
    metric: str,
) -> tuple[float, float] | None:
    seeds = {
        k: 0 for k, v in model.get_params().items() if k.endswith("random_state") and v is None
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a small part converges worse, and that is the point
        try:
            fitted = clone(model).set_params(**seeds).fit(*part)
            if flavour.classes(fitted) != (classes if flavour.classes(model) else None):
                return None  # the part lacks a class
            said = [score(metric, t, flavour.predict(fitted, r, classes)) for r, t in (part, test)]
        except (
            ValueError,
            TypeError,
            CharkhaError,
        ):  # too few rows, or fit() wants more than these
            return None
    return said[0], said[1]


def _shuffled(sample: pd.DataFrame, name: str, order: NDArray[np.int64]) -> pd.DataFrame:
    return sample.assign(**{name: sample[name].array[order]})


def _scores(metric: str, truth: Truth, said: Predictions, copies: int) -> Floats:
    """Score `copies` predictions of the same rows that lie one after the other in `said`."""
    weights = np.repeat(np.eye(copies), len(truth), axis=1)  # (copies, copies x rows)
    return statistic(metric, np.tile(truth, copies), said)(weights)


def chosen(importances: Importance, most: int) -> list[tuple[str, float]]:
    """Return the columns worth showing: the first `most` that cost anything."""
    return [(name, cost) for name, cost in importances.columns[:most] if cost > 0]
