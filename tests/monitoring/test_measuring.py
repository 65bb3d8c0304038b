"""Performance of a registered version: its records, the truths that came, and what becomes of them."""

import json
import shutil
import sqlite3
import time
from contextlib import closing
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from charkha.cli.main import main
from charkha.errors import UserError
from charkha.ledger import open_ledger
from charkha.models.asked import Wish
from charkha.models.build import build_package
from charkha.monitoring.explaining import explain_change
from charkha.monitoring.measuring import measure_performance
from charkha.pipeline.runs import open_artifacts
from charkha.pipeline.values import Dir
from charkha.project import open_project
from charkha.serving.records import open_feedback, open_recorder
from charkha.serving.records.feedback import check
from charkha.serving.records.ids import new_ids
from charkha.serving.records.source import Source

MINUTE_US = 60_000_000
INPUTS = ({"name": "area", "type": "double"}, {"name": "place", "type": "string"})


def houses(rows, seed, *, noise=0.1, grown=1.0):
    """Prices, of which a tenth is chance; `noise` says how much of it there is."""
    chance = np.random.default_rng(seed)
    made = pd.DataFrame(
        {
            "area": chance.normal(100, 20, rows) * grown,
            "place": chance.choice(np.array(["North", "South"], dtype=object), rows, p=[0.7, 0.3]),
        }
    )
    return made.assign(price=made["area"] * 900 + chance.standard_t(4, rows) * noise * 50_000)


def sold(table, seed=0):
    """Whether a house is sold within a month: the smaller the likelier."""
    chance = np.random.default_rng(seed)
    likely = 1 / (1 + np.exp((table["area"] - 100) / 8))
    return table.drop(columns="price").assign(
        sold=np.where(chance.random(len(table)) < likely, "yes", "no").astype(object)
    )


def made(folder, model, train, test, target):
    folder.mkdir()
    encode = make_column_transformer((OneHotEncoder(), ["place"]), remainder="passthrough")
    fitted = make_pipeline(encode, model).fit(train[["area", "place"]], train[target])
    wish = Wish(name="prices", target=target, learning_curve=False)
    build_package(fitted, test=test, train=train, wish=wish, folder=folder)
    return fitted


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    train, test = houses(2_000, 0), houses(800, 1)
    regressor = made(folder / "price", LinearRegression(), train, test, "price")
    sold_test = sold(test, 2)
    classifier = made(folder / "sold", LogisticRegression(), sold(train, 1), sold_test, "sold")
    return {"price": (folder / "price", regressor), "sold": (folder / "sold", classifier)}


class Served:
    """A project with one registered version, and the records that somebody's server wrote."""

    def __init__(self, root, package, model, target, settings=""):
        (root / "charkha.toml").write_text(f'[project]\nname = "prices"\n{settings}')
        self.project = open_project(root)
        self.project.state.mkdir()
        self.model, self.target = model, target
        digest = open_artifacts(self.project).save(Dir(package)).digest
        with closing(sqlite3.connect(self.project.state / "mlflow.db")) as database:
            database.executescript("""
                CREATE TABLE model_versions (name, version, source, creation_time, current_stage);
                CREATE TABLE model_version_tags (name, version, key, value);
                CREATE TABLE registered_model_aliases (alias, version, name);
                INSERT INTO model_versions VALUES ('prices', 1, 'somewhere', 0, 'None');
                INSERT INTO registered_model_aliases VALUES ('champion', 1, 'prices');
            """)
            tag = ("prices", 1, "charkha.package", digest)
            database.execute("INSERT INTO model_version_tags VALUES (?, ?, ?, ?)", tag)
            database.commit()

    def ask(self, rows, *, minutes_ago=1.0, shares=True, said=None):
        """Predict rows as a server would; return the ids of the predictions."""
        inputs = rows[["area", "place"]]
        values = self.model.predict(inputs).tolist() if said is None else said
        classes = getattr(self.model, "classes_", None)
        given = [None] * len(rows)
        if classes is not None and shares:
            given = self.model.predict_proba(inputs).tolist()
        recorder = open_recorder(self.project)
        source = Source(
            model="prices",
            version=1,
            variant="champion",
            role="live",
            inputs=INPUTS,
            target=self.target,
            classes=None if classes is None else tuple(classes),
        )
        start = time.time_ns() // 1000 - int(minutes_ago * MINUTE_US)
        ids = list(new_ids(len(rows)))
        records = [
            (id, start + at, 900, None, None, (area, place), value, share)
            for at, (id, area, place, value, share) in enumerate(
                zip(ids, rows["area"], rows["place"], values, given, strict=True)
            )
        ]
        recorder.append(recorder.declare(source), records)
        recorder.close()
        return ids

    def tell(self, ids, truths):
        """Send what turned out to be true."""
        log = open_feedback(self.project)
        log.append([check(id, truth, None) for id, truth in zip(ids, truths, strict=True)])
        log.close()

    def measure(self, **choices):
        return measure_performance(self.project, "prices", **choices)

    def kept(self):
        ledger = open_ledger(self.project)
        try:
            return ledger.read("performance", "prices")
        finally:
            ledger.close()


@pytest.fixture
def prices(tmp_path, monkeypatch, packages):
    monkeypatch.chdir(tmp_path)
    return Served(tmp_path, *packages["price"], "price")


@pytest.fixture
def sales(tmp_path, monkeypatch, packages):
    monkeypatch.chdir(tmp_path)
    gates = "".join(
        f'[[gate]]\nmetric = "{name}"\nbetter_than = "champion"\n'
        for name in ("accuracy", "f1", "auc", "log_loss")
    )
    return Served(tmp_path, *packages["sold"], "sold", gates)


def test_without_ground_truth_there_is_an_estimate_and_no_verdict(prices):
    rows = houses(600, 5)
    prices.ask(rows)
    found = prices.measure()
    assert (found.version, found.task, found.target) == ("prices@1", "regression", "price")
    [window] = found.windows
    assert window.outcome == "not enough labels"
    assert not window.metrics
    assert window.because == "0 of 600 rows have ground truth, and it takes 100 to tell"
    [estimate] = window.estimates
    away = rows["price"] - prices.model.predict(rows[["area", "place"]])
    assert estimate.metric == "rmse"
    assert estimate.low < np.sqrt((away**2).mean()) < estimate.high
    assert found.last_judged is None
    assert not found.alarm.raised
    assert not found.segments


def test_ground_truth_that_comes_late_is_held_against_the_held_out_rows(prices):
    rows = houses(600, 5)
    ids = prices.ask(rows)
    prices.measure()
    prices.tell(ids[:300], rows["price"][:300])
    found = prices.measure()
    [window] = found.windows
    assert (window.outcome, window.rows, window.labelled) == ("as expected", 600, 300)
    [metric], [held_out] = window.metrics, found.held_out
    assert metric.held_out == held_out.value
    assert held_out.rows == 800
    assert metric.low < metric.value < metric.high
    assert held_out.low < metric.value
    assert {d.numbers["labelled"] for d in prices.kept()} == {0, 300}


def test_the_same_labels_are_kept_once_and_more_of_them_replace_the_verdict(prices):
    rows, later = houses(300, 5, noise=0.2), houses(300, 6, noise=0.2)
    ids = prices.ask(rows, minutes_ago=20)
    prices.tell(ids[:50], rows["price"][:50])
    assert prices.measure().windows[0].outcome == "not enough labels"
    prices.tell(ids[50:], rows["price"][50:])
    assert prices.measure().windows[0].outcome == "lower"
    assert len(prices.kept()) == 2
    prices.measure()
    assert len(prices.kept()) == 2
    prices.tell(prices.ask(later), later["price"])
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 300))
    raised = prices.measure(since=moment).alarm
    assert raised.raised
    assert raised.because == "rmse lower in 2 windows in a row"


def test_lower_performance_in_two_windows_is_an_alarm_that_says_since_when(prices):
    for minutes, noise in ((30, 0.1), (20, 0.2), (10, 0.2)):
        rows = houses(400, minutes, noise=noise)
        prices.tell(prices.ask(rows, minutes_ago=minutes), rows["price"])
    found = prices.measure(window="400")
    assert [w.outcome for w in found.windows] == ["as expected", "lower", "lower"]
    assert found.alarm.raised
    assert found.alarm.since == {"rmse": found.windows[1].since}
    assert "rmse" in found.last.because
    assert " worse (p = " in found.last.because
    assert json.loads(json.dumps(asdict(found), default=str))["windows"][2]["outcome"] == "lower"


def test_who_looks_again_and_again_keeps_only_what_is_news(prices):
    for batch in range(6):  # windows are counted from the newest, so each look has others
        rows = houses(130, batch, noise=0.1 if batch < 4 else 0.4)
        prices.tell(prices.ask(rows, minutes_ago=60 - batch), rows["price"])
        prices.measure(window="200", sparing=True)
    outcomes = [decision.numbers["outcome"] for decision in prices.kept()]
    assert outcomes[0] == "as expected"
    assert outcomes[-1] == "lower"
    assert len(outcomes) <= 5
    kept = len(prices.kept())
    prices.measure(window="200", sparing=True)
    assert len(prices.kept()) == kept


def test_the_worst_segment_is_found_without_being_named(prices):
    rows = houses(1_500, 5)
    south = rows["place"] == "South"
    rows.loc[south, "price"] += np.random.default_rng(1).normal(0, 20_000, int(south.sum()))
    prices.tell(prices.ask(rows), rows["price"])
    worst = prices.measure().segments[0]
    assert worst.name == "place = South"
    assert worst.metric == "mae"
    assert worst.value > 2 * worst.rest
    assert worst.held_out < worst.value
    assert worst.low > 0
    assert worst.p <= 0.01


def test_rows_whose_truth_comes_first_may_be_unlike_the_others_and_that_is_said(prices):
    rows = houses(800, 5)
    ids = prices.ask(rows)
    cheap = rows["price"] < rows["price"].median()
    prices.tell(
        [id for id, is_cheap in zip(ids, cheap, strict=True) if is_cheap], rows["price"][cheap]
    )
    [notice] = prices.measure().windows[0].notices
    assert notice.startswith("rows with ground truth are not like the 400 without: prediction")


def test_predictions_that_are_no_number_are_left_out_and_counted(prices):
    rows = houses(400, 5)
    said = prices.model.predict(rows[["area", "place"]]).tolist()
    said[:3] = [float("nan")] * 3
    prices.tell(prices.ask(rows, said=said), rows["price"])
    [window] = prices.measure().windows
    assert window.outcome == "as expected"
    assert window.labelled == 397
    assert "3 rows without a usable prediction, left out" in window.notices


def test_one_truth_for_all_leaves_r2_undefined_and_says_so(tmp_path, monkeypatch, packages):
    monkeypatch.chdir(tmp_path)
    gate = '[[gate]]\nmetric = "r2"\nat_least = 0.5\n'
    served = Served(tmp_path, *packages["price"], "price", gate)
    served.tell(served.ask(houses(300, 5)), [90_000.0] * 300)
    [window] = served.measure().windows
    assert window.outcome == "not enough labels"
    assert not window.metrics
    assert "r2 is undefined: the target is 90000 in all 300 rows" in window.because
    assert window.no_estimate == "r2 cannot be estimated from errors; mae, mse and rmse can"


def test_a_classifier_is_measured_by_the_gates_metrics_and_estimated_from_its_probabilities(sales):
    rows = sold(houses(700, 5), 5)
    ids = sales.ask(rows)
    [before] = sales.measure().windows
    assert [e.metric for e in before.estimates] == ["accuracy", "f1", "auc", "log_loss"]
    sales.tell(ids, rows["sold"])
    [window] = sales.measure().windows
    assert window.outcome == "as expected"
    for metric, estimate in zip(window.metrics, before.estimates, strict=True):
        assert estimate.low < metric.value < estimate.high


def test_a_classifier_whose_labels_mean_something_else_is_lower_and_the_estimate_does_not_see_it(
    sales,
):
    rows = sold(houses(700, 5), 5)
    swapped = ["no" if truth == "yes" else truth for truth in rows["sold"]]
    sales.tell(sales.ask(rows), swapped)
    [window] = sales.measure().windows
    assert window.outcome == "lower"
    assert "accuracy" in window.lower
    measured, estimate = window.metrics[0], window.estimates[0]
    assert estimate.low > measured.high


def test_records_without_probabilities_have_no_estimate_and_the_reason(sales):
    rows = sold(houses(300, 5), 5)
    sales.tell(sales.ask(rows, shares=False), rows["sold"])
    [window] = sales.measure().windows
    assert window.no_estimate == "the records have no probabilities"
    assert [m.metric for m in window.metrics] == ["accuracy", "f1"]
    assert sum("needs probabilities" in notice for notice in window.notices) == 2


def test_a_package_without_held_out_rows_is_compared_by_its_scores(tmp_path, monkeypatch, packages):
    monkeypatch.chdir(tmp_path)
    folder, model = packages["price"]
    old = tmp_path / "package"
    shutil.copytree(folder, old)
    (old / "held_out.parquet").unlink()
    described = json.loads((old / "package.json").read_text())
    del described["held_out"]
    (old / "package.json").write_text(json.dumps(described))
    served = Served(tmp_path, old, model, "price")
    for minutes, noise in ((20, 0.1), (10, 0.2)):
        rows = houses(400, minutes, noise=noise)
        served.tell(served.ask(rows, minutes_ago=minutes), rows["price"])
    found = served.measure(window="400")
    assert [w.outcome for w in found.windows] == ["as expected", "lower"]
    assert found.held_out[0].low is None
    assert found.last.no_estimate.startswith("the package keeps no held-out rows to learn from")


def test_the_column_that_moved_the_predictions_is_named_with_its_part(prices):
    prices.ask(houses(600, 5, grown=1.3))
    found = explain_change(prices.project, "prices")
    assert (found.version, found.of) == ("prices@1", "price")
    assert found.shift == pytest.approx(found.after - found.before)
    assert sum(c.moved for c in found.columns) == pytest.approx(found.shift)
    area = found.columns[0]
    assert area.column == "area"
    assert area.share == pytest.approx(1, abs=0.1)
    assert area.low < 27_000 < area.high  # 30 % of 100 at 900 each
    assert found.because.startswith("price ")


def test_of_classes_the_probability_is_explained_and_unnamed_columns_stand_together(sales):
    sales.ask(sold(houses(600, 5, grown=1.3), 5))
    found = explain_change(sales.project, "prices", columns=["place"])
    assert found.of == "probability of yes"
    assert found.shift < -0.1
    assert [c.column for c in found.columns] == ["all others", "place"]
    with pytest.raises(UserError, match="no input 'plac'"):
        explain_change(sales.project, "prices", columns=["plac"])


def test_the_check_tells_performance_below_drift_and_fails_only_where_asked(prices, capsys):
    rows = houses(600, 5, noise=0.2, grown=1.3)
    prices.tell(prices.ask(rows), rows["price"])
    assert main(["monitor", "check", "prices"]) == 0
    out = capsys.readouterr().out
    assert "\nperformance: lower\n  600 of 600 rows have ground truth: rmse " in out
    assert "no alarm: rmse lower in 1 of 2 windows in a row" in out
    assert "estimate " in out
    assert "what moved it\n" in out
    assert main(["monitor", "check", "prices", "--fail-on-lower", "--json"]) == 1
    [told] = json.loads(capsys.readouterr().out)
    assert told["performance"]["windows"][0]["outcome"] == "lower"
    assert told["explained"]["columns"][0]["column"] == "area"


def test_what_cannot_be_measured_says_why(prices):
    with pytest.raises(UserError, match="there is no record of prices@1"):
        prices.measure()
    with pytest.raises(UserError, match="no model is called 'prise'"):
        measure_performance(prices.project, "prise")
    prices.ask(houses(50, 5))
    with pytest.raises(UserError, match="is no size of a window"):
        prices.measure(window="many")
