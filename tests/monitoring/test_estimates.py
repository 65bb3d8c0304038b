"""Estimates hold what comes true, and segments are found where there are some; seeded."""

import numpy as np
import pyarrow as pa
import pytest

from charkha.monitoring.answers import answered, labelled
from charkha.monitoring.estimates import estimates, make_estimator
from charkha.monitoring.losses import interval
from charkha.monitoring.performance import Figure
from charkha.monitoring.segments import worst_segments
from charkha.monitoring.stumps import learn
from charkha.project import MonitoringSettings

INPUTS = ["input.area", "input.place"]
CLASSES = ("no", "yes")
SETTINGS = MonitoringSettings()


def houses(rows, chance, *, shift=0.0, west=1.0):
    """Errors are twice as large where the area is above 110, and `west` times in the West."""
    area = chance.normal(100 + shift, 20, rows)
    place = chance.choice(["North", "South", "West"], rows, p=[0.6, 0.3, 0.1])
    size = 3_000 * (1 + (area > 110)) * np.where(place == "West", west, 1)
    truth = area * 900 + chance.normal(size=rows) * size
    return pa.table(
        {
            "input.area": area,
            "input.place": place,
            "prediction": area * 900,
            "ground_truth": truth,
        }
    )


def sales(rows, chance, *, shift=0.0):
    """The model is twice as sure as it should be."""
    logits = chance.normal(shift, 1.5, rows)
    truth = chance.random(rows) < 1 / (1 + np.exp(-logits))
    said = 1 / (1 + np.exp(-2 * logits))
    return pa.table(
        {
            "prediction": np.where(said > 0.5, "yes", "no"),
            "probability.no": 1 - said,
            "probability.yes": said,
            "ground_truth": np.where(truth, "yes", "no"),
        }
    )


def measured(known, names):
    found = {name: interval(name, known.scored) for name in names}
    return [
        Figure(metric=name, value=i.value, low=i.low, high=i.high, rows=len(known))
        for name, i in found.items()
    ]


@pytest.mark.parametrize(
    ("make", "shift", "task", "classes", "inputs", "names"),
    [
        (houses, 15.0, "regression", None, INPUTS, ("mae", "rmse")),
        (sales, -1.0, "classification", CLASSES, [], ("accuracy", "f1", "auc", "log_loss")),
    ],
)
def test_an_estimate_follows_the_inputs_and_holds_what_comes_true(
    make, shift, task, classes, inputs, names
):
    chance = np.random.default_rng(3)
    inside = moved = 0
    for _ in range(10):
        known = labelled(answered(make(800, chance), task, classes), task)
        before = measured(known, names)
        window = answered(make(600, chance, shift=shift), task, classes)
        found, reason = estimates(make_estimator(known, inputs, before), window)
        true = measured(labelled(window, task), names)
        assert reason is None
        inside += sum(e.low < t.value < e.high for e, t in zip(found, true, strict=True))
        for b, e, t in zip(before, found, true, strict=True):
            if abs(t.value - b.value) > 0.1 * b.value:
                moved += (e.value > b.value) == (t.value > b.value)
    assert inside >= 0.85 * 10 * len(names)
    assert moved >= 9


def test_where_no_column_says_anything_of_the_error_its_mean_is_all_that_is_learned():
    chance = np.random.default_rng(0)
    table = pa.table({"a": chance.normal(size=500), "b": chance.choice(list("xyz"), 500)})
    losses = chance.exponential(size=500)
    learned = learn(table, ["a", "b"], losses)
    assert np.ptp(learned.expect(table)) < 0.2
    assert learned.expect(table).mean() == pytest.approx(losses.mean(), rel=0.05)


def test_few_held_out_rows_are_no_basis_for_an_estimate():
    known = labelled(
        answered(houses(60, np.random.default_rng(0)), "regression", None), "regression"
    )
    refused = make_estimator(known, INPUTS, measured(known, ("mae",))).refused
    assert refused == "60 held-out rows are too few to learn from: 100 at least"


def test_missing_and_new_values_are_estimated_too():
    chance = np.random.default_rng(0)
    known = labelled(answered(houses(400, chance), "regression", None), "regression")
    estimator = make_estimator(known, INPUTS, measured(known, ("mae",)))
    strange = pa.table(
        {
            "input.area": pa.array([None, float("nan"), 1e9], pa.float64()),
            "input.place": ["Moon", None, "West"],
            "prediction": [1.0, 2.0, 3.0],
        }
    )
    [found], _ = estimates(estimator, answered(strange, "regression", None))
    assert 1_000 < found.value < 12_000


def found_in(chance, *, west=1.0, even=False):
    table = houses(1_200, chance, west=west)
    if even:
        truth = table["prediction"].to_numpy() + chance.standard_t(3, 1_200) * 1_000
        table = table.set_column(3, "ground_truth", pa.array(truth))
    known = labelled(answered(table, "regression", None), "regression")
    return worst_segments(known, INPUTS, None, "regression", SETTINGS)


def test_where_all_rows_are_alike_no_segment_is_found():
    chance = np.random.default_rng(4)
    assert sum(bool(found_in(chance, even=True)) for _ in range(40)) <= 2


def test_the_worst_segment_comes_first_with_an_interval_that_holds():
    worst, *others = found_in(np.random.default_rng(4), west=4.0)
    assert worst.name == "place = West"
    assert worst.low > 0
    assert worst.low <= worst.worse_by <= worst.high
    assert all(other.low <= worst.low for other in others)


def test_segments_of_classes_are_counted_by_their_wrong_answers():
    chance = np.random.default_rng(5)
    place = chance.choice(["North", "West"], 900)
    truth = chance.choice(["no", "yes"], 900)
    wrong = chance.random(900) < np.where(place == "West", 0.4, 0.1)
    said = np.where(wrong, np.where(truth == "no", "yes", "no"), truth)
    table = pa.table({"input.place": place, "prediction": said, "ground_truth": truth})
    known = labelled(answered(table, "classification", CLASSES), "classification")
    [found] = worst_segments(known, ["input.place"], None, "classification", SETTINGS)
    assert (found.name, found.metric) == ("place = West", "error rate")
    assert found.value == pytest.approx(0.4, abs=0.06)


def test_a_truth_that_came_as_text_is_the_class_that_it_names():
    table = pa.table({"prediction": [0, 1, 1], "ground_truth": ["0", "1", "7"]})
    known = labelled(answered(table, "classification", (0, 1)), "classification")
    assert known.scored.truth.tolist() == ["0", "1", "7"]
    assert known.scored.predicted.values.tolist() == ["0", "1", "1"]
    known = labelled(answered(table.slice(0, 2), "classification", (0, 1)), "classification")
    assert known.scored.truth.tolist() == [0, 1]
