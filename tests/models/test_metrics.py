"""Agreement of our vectorised metrics with scikit-learn's, weighted and not."""

import subprocess
import sys

import numpy as np
import pytest
from sklearn import metrics as sk

from charkha.errors import DataError, UserError
from charkha.models.metrics import METRICS, metric
from charkha.models.predictions import Predictions
from charkha.models.scores import score, statistic
from charkha.project import BETTER

RNG = np.random.default_rng(7)
N = 400
TRUTH = RNG.normal(180_000, 80_000, N)
SAID = TRUTH + RNG.normal(0, 25_000, N)
WEIGHTS = RNG.integers(0, 4, (5, N)).astype(float)  # as a bootstrap draws them


def labelled(classes, ties=False):
    truth = np.array(classes, dtype=object)[RNG.integers(0, len(classes), N)]
    shares = RNG.dirichlet(np.ones(len(classes)), N)
    shares[np.arange(N), [classes.index(t) for t in truth]] += 0.4
    shares = shares.round(1) if ties else shares
    shares /= shares.sum(axis=1, keepdims=True)
    values = np.array(classes, dtype=object)[shares.argmax(axis=1)]
    return truth, Predictions(values=values, probabilities=shares, classes=tuple(classes))


TWO, MANY = labelled(["no", "yes"], ties=True), labelled(["a", "b", "c"], ties=True)


def averaged(function):
    return {
        "": lambda t, p, w, two: function(
            t, p, sample_weight=w, zero_division=0,
            **({"pos_label": "yes", "average": "binary"} if two else {"average": "macro"}),
        ),
        "_macro": lambda t, p, w, two: function(
            t, p, sample_weight=w, zero_division=0, average="macro"
        ),
        "_weighted": lambda t, p, w, two: function(
            t, p, sample_weight=w, zero_division=0, average="weighted"
        ),
    }  # fmt: skip


REGRESSION = {
    "mae": sk.mean_absolute_error,
    "mse": sk.mean_squared_error,
    "rmse": sk.root_mean_squared_error,
    "r2": sk.r2_score,
}
LABELS = {
    f"{name}{suffix}": function
    for name, base in {
        "precision": sk.precision_score,
        "recall": sk.recall_score,
        "f1": sk.f1_score,
    }.items()
    for suffix, function in averaged(base).items()
}


@pytest.mark.parametrize("name", REGRESSION)
@pytest.mark.parametrize("row", range(5))
def test_regression_agrees_with_scikit_learn(name, row):
    ours = statistic(name, TRUTH, Predictions(values=SAID))(WEIGHTS)[row]
    theirs = REGRESSION[name](TRUTH, SAID, sample_weight=WEIGHTS[row])
    assert ours == pytest.approx(theirs, rel=1e-12)


@pytest.mark.parametrize("name", ["accuracy", *LABELS])
@pytest.mark.parametrize("row", range(5))
@pytest.mark.parametrize("data", [TWO, MANY], ids=["two", "many"])
def test_labels_agree_with_scikit_learn(name, row, data):
    truth, said = data
    ours = statistic(name, truth, said)(WEIGHTS)[row]
    told, given = truth.astype(str), said.values.astype(str)
    if name == "accuracy":
        theirs = sk.accuracy_score(told, given, sample_weight=WEIGHTS[row])
    else:
        theirs = LABELS[name](told, given, WEIGHTS[row], data is TWO)
    assert ours == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize("row", range(5))
@pytest.mark.parametrize("data", [TWO, MANY], ids=["two", "many"])
def test_probabilities_agree_with_scikit_learn(row, data):
    truth, said = data
    told, weights = truth.astype(str), WEIGHTS[row]
    loss = sk.log_loss(told, said.probabilities, sample_weight=weights)
    if data is TWO:
        area = sk.roc_auc_score(told, said.probabilities[:, 1], sample_weight=weights)
    else:
        area = sk.roc_auc_score(told, said.probabilities, multi_class="ovr", sample_weight=weights)
    assert statistic("log_loss", truth, said)(WEIGHTS)[row] == pytest.approx(loss, abs=1e-12)
    assert statistic("auc", truth, said)(WEIGHTS)[row] == pytest.approx(area, abs=1e-12)


@pytest.mark.parametrize("name", METRICS)
def test_the_declared_direction_is_the_true_one(name):
    if METRICS[name].task == "regression":
        truth, right, wrong = TRUTH, TRUTH, SAID
        better, worse = (score(name, truth, Predictions(values=v)) for v in (right, wrong))
    else:
        truth, said = TWO
        sure = np.column_stack([truth == "no", truth == "yes"]).astype(float)
        right = Predictions(values=truth, probabilities=sure, classes=said.classes)
        better, worse = score(name, truth, right), score(name, truth, said)
    assert METRICS[name].improvement(better, worse) > 0


def test_the_projects_file_knows_the_same_metrics_and_which_way_is_better():
    assert {name: metric.better for name, metric in METRICS.items()} == BETTER


def test_an_unknown_metric_gets_a_suggestion():
    with pytest.raises(UserError, match="no metric is called 'RSME'") as refused:
        metric("RSME")
    assert "did you mean 'rmse'?" in str(refused.value)


def test_a_metric_of_the_other_task_is_refused():
    with pytest.raises(UserError, match="measures classification"):
        metric("auc", "regression")


def test_an_area_needs_both_classes():
    truth, said = TWO
    only = np.flatnonzero(truth == "no")
    part = Predictions(
        values=said.values[only], probabilities=said.probabilities[only], classes=said.classes
    )
    with pytest.raises(DataError, match="none of the .* rows is of class 'yes'"):
        score("auc", truth[only], part)


def test_a_weighting_that_loses_a_class_has_no_area():
    truth, said = TWO
    weights = np.stack([(truth == "no").astype(float), np.ones(N)])
    areas = statistic("auc", truth, said)(weights)
    assert np.isnan(areas[0])
    assert areas[1] > 0.5


def test_a_class_the_model_never_saw_names_its_row():
    truth, said = TWO
    truth = truth.copy()
    truth[4] = "perhaps"
    with pytest.raises(DataError, match="row 5 is of class 'perhaps'"):
        score("log_loss", truth, said)


def test_a_missing_target_names_its_row():
    truth = TRUTH.copy()
    truth[[2, 9]] = np.nan
    with pytest.raises(DataError, match=r"nan in row 3 \(2 of 400 rows\)"):
        score("rmse", truth, Predictions(values=SAID))
    labels = TWO[0].copy()
    labels[7] = None
    with pytest.raises(DataError, match="missing in row 8"):
        score("accuracy", labels, TWO[1])


def test_no_rows_have_no_score():
    with pytest.raises(DataError, match="no rows to score"):
        score("rmse", TRUTH[:0], Predictions(values=SAID[:0]))


def test_labels_alone_have_no_log_loss():
    with pytest.raises(UserError, match="needs probabilities"):
        score("log_loss", TWO[0], Predictions(values=TWO[1].values, classes=("no", "yes")))


def test_a_constant_target_has_no_r2():
    with pytest.raises(DataError, match="r2 is undefined: the target is 5 in all 10 rows"):
        score("r2", np.full(10, 5.0), Predictions(values=np.arange(10.0)))


def test_naming_a_metric_imports_no_numpy():
    code = (
        "import sys; from charkha import Gate; Gate('rmse', at_most=1);"
        "raise SystemExit('numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
