"""The influence of a row is what a metric moves by as the row gets more weight."""

import numpy as np
import pytest

from charkha.models.influence import influence
from charkha.models.metrics import METRICS
from charkha.models.predictions import Predictions
from charkha.models.scores import statistic


def rows(task, kinds):
    chance = np.random.default_rng(2)
    if task == "regression":
        truth = chance.normal(100, 20, 80)
        return truth, Predictions(values=truth + chance.standard_t(3, 80))
    labels = ("no", "perhaps", "yes")[-kinds:]
    shares = chance.dirichlet(np.ones(kinds), 80).round(2) + 1e-3  # with ties
    truth, said = (np.empty(80, dtype=object) for _ in range(2))
    truth[:] = chance.choice(labels, 80).tolist()
    said[:] = [labels[at] for at in shares.argmax(axis=1)]
    shares /= shares.sum(axis=1, keepdims=True)
    return truth, Predictions(values=said, probabilities=shares, classes=labels)


@pytest.mark.parametrize("kinds", [2, 3])
@pytest.mark.parametrize("name", METRICS)
def test_it_is_the_derivative_of_the_metric_by_the_weight_of_a_row(name, kinds):
    truth, said = rows(METRICS[name].task, kinds)
    found, score, step = influence(name, truth, said), statistic(name, truth, said), 1e-5
    weights = np.ones((80, 80)) + step * np.eye(80)
    moved = (score(weights) - score(np.ones((1, 80)))) / step * (80 + step)
    assert found == pytest.approx(moved, rel=1e-3, abs=1e-3)
    assert found.mean() == pytest.approx(0, abs=1e-9)


def test_a_model_without_an_error_has_rows_without_influence():
    truth = np.arange(9.0)
    assert not influence("rmse", truth, Predictions(values=truth)).any()
