"""`charkha monitor check`: a registered version, its records, and what becomes of them."""

import json
import sqlite3
import time
from contextlib import closing

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from charkha.cli.main import main
from charkha.ledger import open_ledger
from charkha.models.asked import Wish
from charkha.models.build import build_package
from charkha.pipeline.runs import open_artifacts
from charkha.pipeline.values import Dir
from charkha.project import open_project
from charkha.serving.records import open_recorder
from charkha.serving.records.ids import new_ids
from charkha.serving.records.source import Source

MINUTE_US = 60_000_000
INPUTS = ({"name": "area", "type": "double"}, {"name": "place", "type": "string"})


def houses(rows, seed, grown=1.0):
    chance = np.random.default_rng(seed)
    made = pd.DataFrame(
        {
            "area": chance.normal(100, 20, rows) * grown,
            "place": chance.choice(np.array(["North", "South"], dtype=object), rows, p=[0.7, 0.3]),
        }
    )
    return made.assign(price=made["area"] * 900)


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "package"
    folder.mkdir()
    train = houses(2_000, 0)
    encode = make_column_transformer((OneHotEncoder(), ["place"]), remainder="passthrough")
    model = make_pipeline(encode, LinearRegression()).fit(train[["area", "place"]], train["price"])
    wish = Wish(name="prices", target="price", learning_curve=False)
    build_package(model, test=houses(800, 1), train=train, wish=wish, folder=folder)
    return folder


@pytest.fixture
def project(tmp_path, monkeypatch, package):
    (tmp_path / "charkha.toml").write_text('[project]\nname = "prices"\n')
    monkeypatch.chdir(tmp_path)
    made = open_project(tmp_path)
    made.state.mkdir()
    digest = open_artifacts(made).save(Dir(package)).digest
    with closing(sqlite3.connect(made.state / "mlflow.db")) as database:
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
    return made


def record(project, rows, *, minutes_ago=1.0):
    recorder = open_recorder(project)
    source = Source(
        model="prices", version=1, variant="champion", role="live", inputs=INPUTS, target="price"
    )
    start = time.time_ns() // 1000 - int(minutes_ago * MINUTE_US)
    records = [
        (id, start + at, 900, None, None, (area, place), price, None)
        for at, (id, area, place, price) in enumerate(
            zip(new_ids(len(rows)), rows["area"], rows["place"], rows["price"], strict=True)
        )
    ]
    recorder.append(recorder.declare(source), records)
    recorder.close()


@pytest.fixture
def said(capsys):
    def said(*arguments, code=0):
        assert main(["monitor", "check", *arguments]) == code
        return capsys.readouterr()

    return said


def test_records_like_the_training_rows_are_no_drift(project, said):
    record(project, houses(600, 5))
    out = said("prices").out
    assert out.startswith("prices@1: no drift\n  600 rows from ")
    assert "against 2,000 rows of training" in out
    assert "none of 3 columns changed" in out


def test_drift_names_columns_and_direction_and_ends_with_1_only_where_asked(project, said):
    record(project, houses(600, 5, grown=1.3))
    out = said("prices@1").out
    assert out.startswith("prices@1: drift")
    assert "input.area: median up" in out
    assert "no alarm: input.area, prediction drifted in 1 of 2 windows in a row" in out
    said("prices", "--fail-on-drift", code=1)


def test_a_verdict_is_kept_once_however_often_it_is_asked_for(project, said):
    record(project, houses(600, 5, grown=1.3))
    said("prices")
    said("prices")
    ledger = open_ledger(project)
    [kept] = ledger.read("drift", "prices")
    ledger.close()
    assert (kept.subject, kept.numbers["outcome"], kept.numbers["rows"]) == (
        "prices@1",
        "drift",
        600,
    )
    assert kept.numbers["drifted"] == ["input.area", "prediction"]
    assert kept.because.startswith("drift: 2 of 3 columns: input.area: median up")


def test_two_windows_in_a_row_are_an_alarm_that_says_since_when(project, said):
    record(project, houses(400, 4), minutes_ago=30)
    record(project, houses(400, 5, grown=1.3), minutes_ago=20)
    record(project, houses(400, 6, grown=1.3), minutes_ago=10)
    [told] = json.loads(said("prices", "--window", "400", "--json").out)
    assert [v["outcome"] for v in told["verdicts"]] == ["no drift", "drift", "drift"]
    assert told["alarm"]["raised"]
    assert told["alarm"]["since"]["input.area"] == told["verdicts"][1]["since"]


def test_an_earlier_check_counts_as_the_window_before(project, said):
    record(project, houses(400, 5, grown=1.3), minutes_ago=20)
    assert "no alarm" in said("prices").out
    record(project, houses(400, 6, grown=1.3), minutes_ago=0.5)
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 300))
    assert (
        "  alarm: input.area, prediction drifted in 2 windows"
        in said("prices", "--since", moment).out
    )


def test_segments_are_judged_against_their_own_training_rows(project, said):
    rows = houses(2_000, 5)
    rows.loc[rows["place"] == "South", "area"] *= 1.5
    record(project, rows)
    told = json.loads(said("prices", "--segment", "place", "--json").out)
    found = {each["segment"]: each["verdicts"][0]["outcome"] for each in told}
    assert found == {"place = North": "no drift", "place = South": "drift"}


def test_columns_that_are_ignored_or_redacted_are_not_looked_at(project, said):
    record(project, houses(600, 5, grown=1.3))
    (project.root / "charkha.toml").write_text(
        '[project]\nname = "prices"\n[monitoring]\nignore = ["area"]\n'
        '[records]\nredact = ["price"]\n'
    )
    [told] = json.loads(said("prices", "--json").out)
    assert "input.area" not in [c["column"] for c in told["verdicts"][0]["columns"]]


def test_a_column_to_ignore_that_is_not_there_is_said_and_never_silent(project, said):
    record(project, houses(600, 5))
    (project.root / "charkha.toml").write_text(
        '[project]\nname = "prices"\n[monitoring]\nignore = ["aera"]\n'
    )
    note = "ignore has 'aera', which is no column of this version; did you mean 'area'?"
    assert note in said("prices").err
    [told] = json.loads(said("prices", "--json").out)
    assert told["notes"] == [f"[monitoring] {note}"]


def test_few_rows_are_no_verdict(project, said):
    record(project, houses(1, 5, grown=9.0))
    assert "not enough data" in said("prices", "--fail-on-drift").out


def test_what_cannot_be_checked_says_why(project, said):
    assert "there is no record of prices@1 since 1d" in said("prices", code=1).err
    assert "did you mean 'prices'?" in said("prise", code=1).err
    record(project, houses(300, 5))
    assert "did you mean 'place'?" in said("prices", "--segment", "plac", code=1).err
    assert "is no size of a window" in said("prices", "--window", "many", code=1).err
