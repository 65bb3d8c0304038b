"""What the loop sees: wishes, drift, new data, labels and schedules, with real records."""

import sqlite3
import time
from contextlib import closing

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression

from charkha.ledger import ledger_url
from charkha.loop.observing import Observer
from charkha.loop.opening import ask
from charkha.loop.turns import Kept, Turn
from charkha.models.asked import Wish
from charkha.models.build import build_package
from charkha.models.registry import list_versions
from charkha.pipeline.runs import open_artifacts
from charkha.pipeline.values import Dir
from charkha.project import TriggerSettings, open_project
from charkha.serving.records import open_feedback, open_recorder
from charkha.serving.records.feedback import Feedback
from charkha.serving.records.ids import new_ids
from charkha.serving.records.source import Source
from charkha.states import States

DAY = 86_400.0
INPUTS = ({"name": "area", "type": "double"},)


def houses(rows, seed, grown=1.0):
    area = np.random.default_rng(seed).normal(100, 20, rows) * grown
    return pd.DataFrame({"area": area, "price": area * 900})


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "package"
    folder.mkdir()
    train = houses(2_000, 0)
    model = LinearRegression().fit(train[["area"]], train["price"])
    wish = Wish(name="prices", target="price", learning_curve=False)
    build_package(model, test=houses(800, 1), train=train, wish=wish, folder=folder)
    return folder


@pytest.fixture
def project(tmp_path, package):
    (tmp_path / "charkha.toml").write_text('[project]\nname = "prices"\n')
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
        insert = "INSERT INTO model_version_tags VALUES ('prices', 1, ?, ?)"
        database.execute(insert, ("charkha.package", digest))
        database.execute(insert, ("charkha.data", "ames=md5:old prices.records=sha256:x"))
        database.commit()
    return made


@pytest.fixture
def look(project):
    """Return `look(trigger, …)`: the signal of one trigger, as a loop sees it."""
    states = States(ledger_url(project))

    def look(kind, *, kept=None, now=None, **how):
        triggers = [TriggerSettings(on=kind, **how)] if kind != "person" else []
        observer = Observer(project=project, model="prices", triggers=triggers, states=states)
        (champion,) = list_versions(project, "prices")
        now = time.time() if now is None else now
        seen = observer.look(champion, kept or Kept(watching_since=now), now)
        look.seen = seen
        return next(s for s in seen.signals if s.kind == kind)

    yield look
    states.close()


def record(project, rows, *, minutes_ago=1.0, known=0):
    """Record predictions, and the truth of the first `known` of them."""
    recorder = open_recorder(project)
    source = Source(
        model="prices", version=1, variant="champion", role="live", inputs=INPUTS, target="price"
    )
    start = time.time_ns() // 1000 - int(minutes_ago * 60_000_000)
    ids = new_ids(len(rows))
    recorder.append(
        recorder.declare(source),
        [
            (id, start + at, 900, None, None, (area,), price, None)
            for at, (id, area, price) in enumerate(
                zip(ids, rows["area"], rows["price"], strict=True)
            )
        ],
    )
    recorder.close()
    log = open_feedback(project)
    log.append([Feedback(id=id, truth=1.0) for id in ids[:known]])
    log.close()


def turn(**changes):
    given = {
        "id": "t1", "trigger": "drift", "because": "", "began_at": 0.0, "params": {},
        "decided_at": 0.0, "by": "ann",
    }  # fmt: skip
    return Turn(**{**given, **changes})


def after(kept=None, *, data=None, labels=0, **changes):
    """Return what is remembered after a turn."""
    kept = kept or Kept(watching_since=0.0)
    return kept.with_turn(turn(**changes), data=data or {}, labels=labels)


def test_without_records_drift_says_so_and_does_not_fire(look):
    seen = look("drift")
    assert not seen.fires
    assert "no record" in seen.because


def test_predictions_that_got_worse_fire_and_are_causes_for_alerts_too(project, look):
    project_rows = houses(1_200, 3)
    record(project, project_rows, known=1_200)  # each truth is 1, far from any price
    seen = look("performance")
    assert seen.fires
    assert "rmse" in seen.because
    assert seen.since is not None
    assert {c.kind for c in look.seen.causes} >= {"performance"}


def test_performance_without_truth_does_not_fire_and_says_what_is_missing(project, look):
    record(project, houses(400, 3))
    seen = look("performance")
    assert not seen.fires
    assert "label" in seen.because or "truth" in seen.because


def test_records_like_the_training_rows_are_no_reason(project, look):
    record(project, houses(600, 5))
    assert not look("drift").fires


def test_a_wish_fires_until_it_is_served_and_never_again(project, look):
    assert not look("person").fires
    first = ask(project, "prices", "a new law")
    seen = look("person")
    assert (seen.fires, seen.request) == (True, first)
    assert seen.because.endswith(": a new law")
    served = after(request=first)
    assert not look("person", kept=served).fires
    since = after(served, trigger="drift")
    assert not look("person", kept=since).fires
    second = ask(project, "prices", "again")
    assert look("person", kept=since).request == second


@pytest.fixture
def data_is(monkeypatch):
    """Set what the champion's datasets are now, as they would be found on the disk."""

    def data_is(**versions):
        monkeypatch.setattr(Observer, "_data", lambda self, champion: versions)

    return data_is


def test_a_new_version_of_a_dataset_fires_once(look, data_is):
    data_is(ames="md5:old")
    assert look("data").because == "no dataset has changed"
    data_is(ames="md5:new")
    seen = look("data")
    assert (seen.fires, seen.because) == (True, "ames is md5:new now, and was md5:old")
    assert look.seen.data == {"ames": "md5:new"}
    refused = after(data={"ames": "md5:new"})
    assert not look("data", kept=refused).fires
    data_is(ames="md5:newer")
    assert look("data", kept=refused).fires


def test_a_dataset_that_the_champion_has_learnt_from_meanwhile_is_not_new(look, data_is):
    """A person ran the pipeline, and promoted what came of it."""
    data_is(ames="md5:old")
    assert not look("data", kept=after(data={"ames": "md5:before"})).fires


def test_a_dataset_on_the_disk_is_looked_at_and_one_that_was_taken_out_is_not(project, look):
    assert look("data").because == "no dataset has changed"
    data = project.root / "data"
    data.mkdir()
    (data / "ames").write_text("price\n1\n")
    (data / "ames.dvc").write_text("outs:\n- md5: abc\n  size: 8\n  hash: md5\n  path: ames\n")
    seen = look("data")
    assert seen.fires
    assert seen.because.startswith("ames is md5:")


def test_so_many_new_labels_are_new_data(project, look, data_is):
    data_is(ames="md5:old")
    record(project, houses(30, 3), known=20)
    assert look("data", labels=21).because == "20 new ground truths of 21"
    seen = look("data", labels=20)
    assert (seen.fires, seen.because, look.seen.labels) == (True, "20 new ground truths", 20)
    before = after(labels=20)
    assert not look("data", labels=1, kept=before).fires
    record(project, houses(30, 4), known=5)
    assert look("data", labels=5, kept=before).fires


def at(text):
    return pd.Timestamp(text, tz="UTC").timestamp()


MONDAY = at("2026-11-23T03:00")


@pytest.mark.parametrize(
    ("kept", "now", "fires"),
    [
        (Kept(watching_since=MONDAY - 60), MONDAY - 0.5, False),
        (Kept(watching_since=MONDAY - 60), MONDAY, True),
        (Kept(watching_since=MONDAY - 60), MONDAY + 5 * DAY, True),  # nobody looked for so long
        (Kept(watching_since=MONDAY + 60), MONDAY + 90, False),  # over before it began to watch
        (after(began_at=MONDAY + 5, trigger="schedule"), MONDAY + DAY, False),
        (after(began_at=MONDAY + 5, trigger="drift"), MONDAY + DAY, False),  # it was trained since
        (after(began_at=MONDAY - 5, trigger="drift"), MONDAY, True),
        (after(began_at=MONDAY + 5, trigger="schedule"), MONDAY + 7 * DAY, True),
        (after(began_at=MONDAY + 400 * DAY), MONDAY, True),  # by a clock that was wrong
    ],
)
def test_a_schedule_fires_once_for_each_moment_that_was_due(look, kept, now, fires):
    seen = look("schedule", cron="0 3 * * 1", kept=kept, now=now)
    assert seen.fires == fires
    assert ("was due at" if fires else "was last due at") in seen.because


def test_a_schedule_rarer_than_the_memory_of_turns_fires_once(look):
    """A turn of each year; what others begun since has pushed its own out of the last 30 days."""
    january = at("2026-01-01T00:00")
    kept = after(began_at=january + 5, trigger="schedule")
    kept = after(kept, began_at=january + 45 * DAY, trigger="drift")
    assert not look("schedule", cron="0 0 1 1 *", kept=kept, now=january + 46 * DAY).fires
