"""A project with a version in its registry, and records of it: what looks and reports are made of."""

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

from charkha.models.asked import Wish
from charkha.models.build import build_package
from charkha.pipeline.runs import open_artifacts
from charkha.pipeline.values import Dir
from charkha.project import open_project
from charkha.serving.records import open_feedback, open_recorder
from charkha.serving.records.feedback import check
from charkha.serving.records.ids import new_ids
from charkha.serving.records.source import Source

MINUTE_US = 60_000_000
HOSTILE = "<script>alert('x')</script>"
INPUTS = tuple(
    {"name": name, "type": kind}
    for name, kind in (("area", "double"), ("place", "string"), (HOSTILE, "double"))
)


class Watched:
    """A project whose `prices@1` has records."""

    def __init__(self, project):
        self.project = project

    @staticmethod
    def houses(rows, seed, grown=1.0, places=(0.7, 0.3)):
        chance = np.random.default_rng(seed)
        made = pd.DataFrame(
            {
                "area": chance.normal(100, 20, rows) * grown,
                "place": chance.choice(np.array(["North", "South"], dtype=object), rows, p=places),
                HOSTILE: chance.exponential(3, rows),
            }
        )
        return made.assign(price=made["area"] * 900)

    def record(self, rows, *, minutes_ago=1.0, version=1):
        """Record a prediction for each row; return their ids."""
        recorder = open_recorder(self.project)
        source = Source(
            model="prices",
            version=version,
            variant="champion",
            role="live",
            inputs=INPUTS,
            target="price",
        )
        start = time.time_ns() // 1000 - int(minutes_ago * MINUTE_US)
        ids = new_ids(len(rows))
        inputs = rows[["area", "place", HOSTILE]].itertuples(index=False, name=None)
        records = [
            (id, start + at * 1000, 900, None, None, tuple(values), price, None)
            for at, (id, values, price) in enumerate(zip(ids, inputs, rows["price"], strict=True))
        ]
        recorder.append(recorder.declare(source), records)
        recorder.close()
        return list(ids)

    def tell(self, ids, truths):
        """Send what turned out to be true."""
        log = open_feedback(self.project)
        log.append([check(id, truth, None) for id, truth in zip(ids, truths, strict=True)])
        log.close()


@pytest.fixture(scope="session")
def watched_package(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "package"
    folder.mkdir()
    train = Watched.houses(2_000, 0)
    encode = make_column_transformer((OneHotEncoder(), ["place"]), remainder="passthrough")
    columns = ["area", "place", HOSTILE]
    model = make_pipeline(encode, LinearRegression()).fit(train[columns], train["price"])
    wish = Wish(name="prices", target="price", learning_curve=False)
    build_package(model, test=Watched.houses(800, 1), train=train, wish=wish, folder=folder)
    return folder


@pytest.fixture
def watched(tmp_path, monkeypatch, watched_package):
    (tmp_path / "charkha.toml").write_text('[project]\nname = "prices"\n')
    monkeypatch.chdir(tmp_path)
    made = open_project(tmp_path)
    made.state.mkdir()
    digest = open_artifacts(made).save(Dir(watched_package)).digest
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
    return Watched(made)
