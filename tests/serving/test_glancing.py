"""What is counted of rows as they pass, on profiles made of real columns."""

import time

import numpy as np
import pandas as pd
import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from charkha.data.profiles.building import build_profile
from charkha.data.profiles.columns import label_of
from charkha.models import profiled
from charkha.serving import glancing
from charkha.serving.exposition import expose
from charkha.serving.glancing import MOST_A_SECOND, Glance, make_reference
from charkha.serving.lanes import Ask
from charkha.serving.metrics import Meters
from charkha.serving.predictors.port import Answers
from charkha.serving.problems import Problem

LABELS = {"model": "houses", "version": "3", "variant": "champion", "role": "live"}
INPUTS = [("area", "double"), ("rooms", "long"), ("quarter", "string"), ("sold", "datetime")]


def shown(folder, accept=""):
    """Return what another program reads: {(sample, labels): value}."""
    body, _ = expose(folder, accept)
    parse = openmetrics.text_string_to_metric_families if accept else text_string_to_metric_families
    samples = [sample for family in parse(body.decode()) for sample in family.samples]
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for s in samples}


@pytest.fixture(scope="module")
def profile():
    rows = 400
    columns = {
        "input.area": pd.Series(np.arange(rows, dtype=float)),
        "input.rooms": pd.Series(np.arange(rows) % 5).astype("category"),
        "input.quarter": pd.Series(["North", "South", "East", None] * (rows // 4)),
        "input.sold": pd.Series(pd.date_range("2026-01-01", periods=rows)),
        "prediction": pd.Series(np.arange(rows) * 2.0 - 100),
    }
    return build_profile(columns)


@pytest.fixture
def meters(tmp_path):
    made = Meters(tmp_path, 0)
    yield made
    made.close()


def glance(meters, reference, **labels):
    made = Glance(meters, reference, labels={**LABELS, **labels})
    watched = made.show()
    return made, watched


def asked(rows, values=None):
    ask = Ask()
    ask.rows = rows
    return ask, Answers([0.0] * len(rows) if values is None else values)


def values_of(meters, column):
    meters.refresh()
    found = shown(meters.folder)
    return {
        dict(labels)["is"]: value
        for (name, labels), value in found.items()
        if name == "charkha_input_values_total" and dict(labels)["column"] == column
    }


def test_numbers_are_held_against_the_range_and_the_median_of_training(meters, profile):
    looking, _ = glance(meters, make_reference(profile, INPUTS))
    rows = [(area, 1, "North", "2026-01-01") for area in (None, -1.0, 0.0, 399.0, 400.0, np.nan)]
    looking.take([asked(rows)])
    assert values_of(meters, "area") == {"missing": 2, "out_of_range": 2, "above_median": 2}


def test_labels_that_training_did_not_have_are_new(meters, profile):
    looking, _ = glance(meters, make_reference(profile, INPUTS))
    looking.take(
        [asked([(1.0, 7, "West", None), (1.0, 4, None, "2026-01-01"), (1.0, None, "East", None)])]
    )
    assert values_of(meters, "quarter") == {"missing": 1, "new_category": 1}
    assert values_of(meters, "rooms") == {"missing": 1, "new_category": 1}
    assert values_of(meters, "sold") == {"missing": 2}


def test_the_shares_of_training_stand_beside_what_is_counted(meters, profile):
    glance(meters, make_reference(profile, INPUTS))
    found = shown(meters.folder)
    about = {"model": "houses", "variant": "champion"}

    def share(column, what):
        labels = tuple(sorted({**about, "column": column, "is": what}.items()))
        return found["charkha_input_reference_share", labels]

    assert share("area", "above_median") == 0.5
    assert share("quarter", "missing") == 0.25
    assert share("area", "out_of_range") == share("quarter", "new_category") == 0


def test_the_rows_of_training_come_out_as_their_reference_says(meters, profile, monkeypatch):
    monkeypatch.setattr(glancing, "MOST_A_SECOND", 400)
    looking, _ = glance(meters, make_reference(profile, INPUTS))
    rows = [(float(n), n % 5, ["North", "South", "East", None][n % 4], "") for n in range(400)]
    for start in range(0, 400, 50):
        looking.take([asked(rows[start : start + 50])])
    assert values_of(meters, "area") == {"missing": 0, "out_of_range": 0, "above_median": 200}
    assert values_of(meters, "quarter") == {"missing": 100, "new_category": 0}


def test_predictions_are_a_histogram_at_quantiles_of_the_held_out_ones(meters, profile):
    looking, _ = glance(meters, make_reference(profile, INPUTS))
    looking.take([asked([(1.0, 1, "North", "")] * 3, [-1000.0, 300.0, 1e9])])
    meters.refresh()
    found = shown(meters.folder)
    buckets = {
        float(dict(labels)["le"]): value
        for (name, labels), value in found.items()
        if name == "charkha_prediction_value_bucket"
    }
    bounds = sorted(buckets)
    assert len(bounds) == 10
    assert bounds[4] == pytest.approx(299, abs=2)  # the median of the held-out predictions
    assert [buckets[bound] for bound in bounds] == [1, 1, 1, 1, 1, 2, 2, 2, 2, 3]


def test_predictions_below_0_have_no_sum_as_openmetrics_asks(meters, profile):
    looking, _ = glance(meters, make_reference(profile, INPUTS))
    looking.take([asked([(1.0, 1, "North", "")])])
    meters.refresh()
    names = {name for name, _ in shown(meters.folder, "application/openmetrics-text")}
    assert "charkha_prediction_value_bucket" in names
    assert "charkha_prediction_value_sum" not in names


def test_labels_are_counted_one_by_one_and_beyond_twenty_together(meters):
    said = pd.Series([f"class {n:02}" for n in range(30) for _ in range(40 - n)])
    profile = build_profile({"prediction": said})
    looking, _ = glance(meters, make_reference(profile, []))
    looking.take([asked([()] * 3, ["class 00", "class 29", "never seen"])])
    meters.refresh()
    found = {
        dict(labels)["label"]: value
        for (name, labels), value in shown(meters.folder).items()
        if name == "charkha_predicted_labels_total"
    }
    assert len(found) == 21
    assert (found["class 00"], found["(other)"]) == (1, 2)


def test_a_label_is_called_as_in_profiles():
    for value in ("a", 3, 3.0, 2.5, True, None):
        assert glancing._text(value) == label_of(value)


def test_columns_are_called_as_in_profiles_of_packages():
    called = (glancing._INPUT, glancing._PREDICTION)
    assert called == (profiled.INPUT, profiled.PREDICTION)


def test_what_is_hidden_is_not_looked_at(meters, profile):
    reference = make_reference(profile, INPUTS, hidden={"area"}, predictions=False)
    looking, _ = glance(meters, reference)
    looking.take([asked([(1.0, 1, "North", "")])])
    meters.refresh()
    found = shown(meters.folder)
    assert not any(name.startswith("charkha_prediction_value") for name, _ in found)
    assert values_of(meters, "area") == {}
    assert values_of(meters, "rooms") != {}


def test_a_shadow_counts_its_predictions_and_not_the_inputs_a_second_time(meters, profile):
    looking, _ = glance(meters, make_reference(profile, INPUTS), role="shadow")
    looking.take([asked([(1.0, 1, "North", "")])])
    assert values_of(meters, "area") == {}
    assert any(name == "charkha_prediction_value_bucket" for name, _ in shown(meters.folder))


def test_no_more_rows_than_that_are_looked_at_in_a_second(meters, profile, monkeypatch):
    now = [time.monotonic()]
    monkeypatch.setattr(glancing.time, "monotonic", lambda: now[0])
    looking, _ = glance(meters, make_reference(profile, INPUTS))
    for _ in range(5 * MOST_A_SECOND):
        looking.take([asked([(1.0, 1, "North", "")])])
    assert looking.examined() == MOST_A_SECOND
    now[0] += 1
    assert looking.examined() == MOST_A_SECOND
    looking.take([asked([(1.0, 1, "North", "")])])
    assert looking.examined() == MOST_A_SECOND + 1


def test_of_a_large_request_rows_from_all_of_it_are_looked_at(meters, profile):
    looking, _ = glance(meters, make_reference(profile, INPUTS))
    rows = [(float(n % 400), 1, "North", "") for n in range(4000)]
    looking.take([asked(rows)])
    assert looking.examined() == 64
    above = values_of(meters, "area")["above_median"]
    assert 20 <= above <= 43


def test_what_failed_is_not_looked_at(meters, profile):
    looking, _ = glance(meters, make_reference(profile, INPUTS))
    ask, _ = asked([(1.0, 1, "North", "")])
    looking.take([(ask, Problem(500, "model-failed", "The model failed", ""))])
    assert looking.examined() == 0


def test_a_variant_that_leaves_takes_its_reference_with_it_and_leaves_its_counts(meters, profile):
    looking, watched = glance(meters, make_reference(profile, INPUTS))
    looking.take([asked([(None, 1, "North", "")])])
    meters.unwatch(*watched)
    found = shown(meters.folder)
    assert not any("reference" in name for name, _ in found)
    assert values_of(meters, "area")["missing"] == 1


def test_another_version_under_the_same_name_goes_on_counting(meters, profile):
    for version in ("3", "4"):
        looking, watched = glance(meters, make_reference(profile, INPUTS), version=version)
        looking.take([asked([(None, 1, "North", "")])])
        meters.unwatch(*watched)
    assert values_of(meters, "area")["missing"] == 2


def test_at_most_fifty_columns_are_counted():
    profile = build_profile({f"input.c{n}": pd.Series(np.arange(10.0)) for n in range(60)})
    reference = make_reference(profile, [(f"c{n}", "double") for n in range(60)])
    assert len({column for column, _ in reference.shares}) == 50
